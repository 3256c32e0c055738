//! Wrong graphs, `tests/verify/<rule>.ir`: each line that breaks an invariant ends in `// error: message`,
//! and the verifier must say just that. What text can't express is broken by edits below.

use optc_ir::op::{Elu, Return, TopK, Unary};
use optc_ir::{DType, Graph, Op, Tensor, Type, text, verify};
use optc_tests::case::Case;

include!(concat!(env!("OUT_DIR"), "/verify.rs"));

fn check(folder: &str, name: &str) {
    let case = Case::load(folder, name);
    let graph = text::parse_unchecked(&case.text).unwrap_or_else(|e| panic!("{folder}/{name}.ir: {e}"));
    let expected: Vec<(&str, &str)> = case.text.lines().filter_map(|line| line.split_once("// error:")).collect();
    let expected: Vec<_> = expected.iter().map(|(line, message)| (line.trim(), message.trim())).collect();
    assert!(!expected.is_empty(), "{folder}/{name}.ir has no `// error:`");
    let errors = verify::verify(&graph).err().map_or(Vec::new(), |errors| errors.0);
    let found: Vec<_> = errors.iter().map(|e| (e.line.as_str(), e.message.as_str())).collect();
    assert_eq!(found, expected, "{folder}/{name}.ir");
}

/// `x -> a -> b -> y`, nothing wrong yet.
fn chain() -> Graph {
    let mut graph = Graph::new("chain");
    let x = graph.add_input("x", Type::tensor(DType::F32, [4]));
    let a = graph.add("a", Elu::default(), &[Some(x.into())]).expect("fits");
    let b = graph.add("b", Elu::default(), &[Some(a.into())]).expect("fits");
    graph.add_result("y", b.into());
    verify::verify(&graph).expect("nothing is wrong yet");
    graph
}

fn node(graph: &Graph, name: &str) -> optc_ir::NodeId {
    graph.nodes().find(|&node| graph.name(node) == name).expect("the chain has this node")
}

fn messages(graph: &Graph) -> Vec<String> {
    let errors = verify::verify(graph).expect_err("something is wrong");
    errors.0.into_iter().map(|e| format!("{}: {}", e.node, e.message)).collect()
}

#[test]
fn use_of_a_result_that_is_gone() {
    let mut graph = chain();
    let (a, b) = (node(&graph, "a"), node(&graph, "b"));
    let k = graph.add_tensor("k", Tensor::i64([1], [2]));
    graph.set_operand(a, 1, Some(k.into()));
    graph.set_op(a, TopK::default());
    graph.set_operand(b, 0, Some(a.result(1)));
    graph.set_op(a, Elu::default());
    graph.set_operand(a, 1, None);
    assert_eq!(messages(&graph), ["b: operand 0 is result 1 of %a, which has 1"]);
}

#[test]
fn cycle() {
    let mut graph = chain();
    graph.set_operand(node(&graph, "a"), 0, Some(node(&graph, "b").into()));
    assert_eq!(messages(&graph), ["b: depends on itself: %b <- %a <- %b"]);
}

#[test]
fn second_return() {
    let mut graph = chain();
    graph.set_op(node(&graph, "b"), Op::Return(Return { names: vec!["z".to_owned()] }));
    assert_eq!(messages(&graph), ["return: operand 0 is result 0 of %b, which has 0", "b: there is another return"]);
}

#[test]
fn return_replaced() {
    let mut graph = chain();
    graph.set_op(graph.ret(), Op::Unary(Unary::Relu));
    assert_eq!(messages(&graph), ["return: the return of the graph is another operator"]);
}

#[test]
fn input_replaced() {
    let mut graph = chain();
    let ones = optc_ir::Constant::dense(Tensor::f32([4], [1.0; 4]));
    graph.set_op(graph.inputs()[0], Op::Const(ones.into()));
    assert_eq!(messages(&graph), ["x: an input of the graph is another operator"]);
}

#[test]
fn result_without_value() {
    let mut graph = chain();
    graph.set_operand(graph.ret(), 0, None);
    assert_eq!(messages(&graph), ["return: result y has no value"]);
}

#[test]
fn operator_that_does_not_fit() {
    let mut graph = chain();
    graph.set_op(node(&graph, "b"), TopK::default());
    assert_eq!(messages(&graph), ["b: operand 1 (k) is missing"]);
}
