use std::cell::RefCell;

use optc_ir::{DType, Graph, Interp, NodeId, Op, RemarkKind, Tensor, Type, text};

use super::*;
use crate::observe::{Check, Differential, DumpIr, StopAfter, When};
use crate::pipeline::{Fixpoint, parse};

type Run = fn(&mut Graph, &mut PassCx<'_>) -> Result<(), PassError>;

/// A pass made of a function.
struct Act {
    name: &'static str,
    effect: Effect,
    run: Run,
}

impl Pass for Act {
    fn name(&self) -> &'static str {
        self.name
    }

    fn effect(&self) -> Effect {
        self.effect
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        (self.run)(graph, cx)
    }
}

fn node(graph: &Graph, name: &str) -> NodeId {
    graph.nodes().find(|&node| graph.name(node) == name).expect("the node is in the text")
}

fn example() -> Graph {
    let text = "graph @g(%x: f32[2]) -> (y: f32[2]) {
        %c = const f32[2] = [1, 2]
        %sum = add(%x, %c)
        %y = neg(%sum)
        return %y
    }";
    text::parse(text).unwrap()
}

/// Doubles the constant: a change of values that claims to be none.
fn double(graph: &mut Graph, _: &mut PassCx<'_>) -> Result<(), PassError> {
    let c = node(graph, "c");
    let doubled: Vec<f32> = graph.constant(c).unwrap().decode().as_f32().unwrap().iter().map(|x| 2.0 * x).collect();
    graph.set_op(c, Op::Const(optc_ir::Constant::dense(Tensor::f32([2], doubled)).into()));
    Ok(())
}

fn skip_negation(graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
    let (sum, y) = (node(graph, "sum"), node(graph, "y"));
    graph.replace_uses(y.into(), sum.into());
    cx.applied(graph, y, "skipped");
    Ok(())
}

fn rename_input(graph: &mut Graph, _: &mut PassCx<'_>) -> Result<(), PassError> {
    let x = graph.inputs()[0];
    graph.set_name(x, "renamed");
    Ok(())
}

fn narrow_result(graph: &mut Graph, _: &mut PassCx<'_>) -> Result<(), PassError> {
    let half = graph.add_tensor("half", Tensor::zeros(DType::F16, [2]));
    graph.set_operand(graph.ret(), 0, Some(half.into()));
    Ok(())
}

fn fail_halfway(graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
    skip_negation(graph, cx)?;
    Err(PassError::Graph { pass: "fail", message: "no more".to_owned() })
}

fn leave_wrong_type(graph: &mut Graph, _: &mut PassCx<'_>) -> Result<(), PassError> {
    let wrong = graph.add_tensor("wrong", Tensor::zeros(DType::I64, [2]));
    let sum = node(graph, "sum");
    graph.set_operand(sum, 1, Some(wrong.into()));
    Ok(())
}

fn act(run: Run) -> Pipeline {
    Pipeline::default().then(Act { name: "act", effect: Effect::Exact, run })
}

#[test]
fn a_failed_pass_leaves_the_graph_as_it_was() {
    for run in [fail_halfway, rename_input, narrow_result, leave_wrong_type] {
        let mut graph = example();
        assert!(PassManager::new(&Interp).run(&act(run), &mut graph).is_err());
        assert_eq!(graph, example());
    }
}

#[test]
fn signature_and_graph_are_checked() {
    let in_place = |run| PassManager::new(&Interp).run_in_place(&act(run), &mut example()).unwrap_err();
    let copied = |run| PassManager::new(&Interp).run(&act(run), &mut example()).unwrap_err();
    let runs: [&dyn Fn(Run) -> PassError; 2] = [&in_place, &copied];
    for error in runs {
        assert!(matches!(error(rename_input), PassError::Signature { pass: "act" }));
        assert!(matches!(error(narrow_result), PassError::Signature { pass: "act" }));
        assert!(matches!(error(leave_wrong_type), PassError::Broken { pass: "act", .. }));
    }
    let mut trusting = PassManager::new(&Interp);
    trusting.verify = false;
    assert!(trusting.run(&act(leave_wrong_type), &mut example()).is_ok());
}

#[test]
fn a_better_known_result_type_is_no_other_signature() {
    let ty = |shape: &[optc_ir::Dim]| vec![("y".to_owned(), Type::tensor(DType::F32, shape.iter().cloned()))];
    let of = |results| Signature { inputs: Vec::new(), results };
    let (any, sym, two) = (optc_ir::Dim::Any, optc_ir::Dim::sym("N"), optc_ir::Dim::Fixed(2));
    for (old, new, same) in [
        (&any, &sym, true),
        (&any, &two, true),
        (&sym, &two, true),
        (&sym, &any, false),
        (&two, &sym, false),
        (&two, &two, true),
    ] {
        let (old, new) = (of(ty(std::slice::from_ref(old))), of(ty(std::slice::from_ref(new))));
        assert_eq!(keeps_signature(&old, &new), same, "{old:?} {new:?}");
    }
}

#[test]
fn reports_say_what_happened() {
    let mut graph = example();
    let report = PassManager::new(&Interp).run(&act(skip_negation), &mut graph).unwrap();
    let pass = &report.passes[0];
    assert_eq!((pass.name, pass.changed, pass.before.nodes, pass.after.nodes), ("act", true, 5, 4));
    assert_eq!(pass.remarks[0].kind, RemarkKind::Applied);
    assert_eq!(pass.remarks[0].to_string(), "applied %y: skipped");
    assert!(report.changed());
    assert_eq!(report.after, pass.after);
}

#[test]
fn disabled_passes_do_not_run() {
    let mut manager = PassManager::new(&Interp);
    manager.disable("eliminate-dead-code").unwrap();
    let error = manager.disable("eliminate-dead-cod").unwrap_err().to_string();
    assert!(error.contains("eliminate-dead-code"), "{error}");
    let report = manager.run(&parse("eliminate-dead-code,simplify").unwrap(), &mut example()).unwrap();
    assert_eq!(report.passes.len(), 1);
    assert!(report.passes[0].nested.iter().all(|nested| nested.name != "eliminate-dead-code"));
}

#[test]
fn a_fixpoint_ends_with_an_idle_round_and_reports_its_passes() {
    fn shrink(graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        let Some(y) = graph.nodes().find(|&n| graph.name(n) == "y") else { return Ok(()) };
        cx.missed(graph, y, "said in the first round only");
        skip_negation(graph, cx)
    }
    let inner = || Act { name: "inner", effect: Effect::Exact, run: shrink };
    let pipeline = Pipeline::default().then(Fixpoint { name: "outer", max_rounds: 8, passes: vec![Box::new(inner())] });
    let report = PassManager::new(&Interp).run(&pipeline, &mut example()).unwrap();
    let pass = &report.passes[0];
    assert_eq!((pass.name, pass.changed), ("outer", true));
    assert_eq!((pass.nested[0].name, pass.nested[0].runs, pass.nested[0].changes), ("inner", 2, 1));
    let texts: Vec<String> = pass.remarks.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["applied %y: skipped"]);
    assert_eq!(pass.remarks[0].pass, "inner");
}

#[test]
fn observers_see_every_pass_and_may_stop_it() {
    let pipeline = parse("eliminate-dead-code,eliminate-identities,canonicalize").unwrap();
    let seen = RefCell::new(Vec::new());
    let mut manager = PassManager::new(&Interp);
    manager.observe(StopAfter::new(1, |i, name: &str, ran| seen.borrow_mut().push((i, name.to_owned(), ran))));
    manager.run(&pipeline, &mut example()).unwrap();
    drop(manager);
    let expected = [(1, "eliminate-dead-code", true), (2, "eliminate-identities", false), (3, "canonicalize", false)];
    assert_eq!(seen.into_inner(), expected.map(|(i, name, ran)| (i, name.to_owned(), ran)));

    let dumped = RefCell::new(Vec::new());
    let mut manager = PassManager::new(&Interp);
    manager.observe(DumpIr::new(When::Changed, |i, name: &str, text: &str| {
        dumped.borrow_mut().push((i, name.to_owned(), text.contains("neg")));
    }));
    manager.run(&parse("eliminate-dead-code").unwrap().then_all(act(skip_negation)), &mut example()).unwrap();
    drop(manager);
    assert_eq!(dumped.into_inner(), [(0, String::new(), true), (2, "act".to_owned(), false)]);
}

#[test]
fn the_differential_check_catches_a_liar() {
    let checks = RefCell::new(Vec::new());
    let run = |effect| {
        let mut manager = PassManager::new(&Interp);
        manager.observe(Differential::new(1, |_, _: &str, check: &Check| checks.borrow_mut().push(check.clone())));
        manager.run(&Pipeline::default().then(Act { name: "liar", effect, run: double }), &mut example())
    };
    assert!(matches!(run(Effect::Exact), Err(PassError::Effect { pass: "liar", .. })));
    assert!(matches!(run(Effect::Rounding), Err(PassError::Effect { pass: "liar", .. })));
    assert!(run(Effect::Lossy).is_ok());
    assert!(matches!(checks.borrow().as_slice(), [Check::Measured(error)] if *error > 0.1));
}
