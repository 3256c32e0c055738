//! When two results count as equal: the one table of tolerances.

use optc_ir::{Backend, DType, Graph, Interp, Op, Tensor};
use optc_passes::Effect;

/// Who is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judge {
    /// A pass that claims to change nothing: bit by bit, except that any NaN equals any.
    Exact,
    /// A pass that claims to change the order of operations only, both graphs run by the interpreter.
    Rounding,
    /// Another backend against the interpreter on the same graph.
    Backend,
}

impl Judge {
    /// The judge of a pass by what it declares; none for lossy passes.
    pub fn of(effect: Effect) -> Option<Judge> {
        match effect {
            Effect::Exact => Some(Judge::Exact),
            Effect::Rounding => Some(Judge::Rounding),
            Effect::Lossy => None,
        }
    }

    /// The difference allowed, relative to the largest number of the reference (integers: absolute).
    pub fn tolerance(self, dtype: DType) -> f64 {
        match (self, dtype) {
            (Judge::Exact, _) => 0.0,
            (_, DType::F64) => 1e-12,
            (_, DType::F32) => 1e-5,
            (_, DType::F16) => 2e-3,
            (_, DType::BF16) => 2e-2,
            // A code on the edge between two may go either way if what it is made of is rounded.
            (_, DType::I8 | DType::U8 | DType::I4 | DType::U4) => 1.0,
            _ => 0.0,
        }
    }
}

/// Compares two lists of results.
///
/// # Errors
/// What differs, and where.
pub fn compare(names: &[&str], reference: &[Tensor], actual: &[Tensor], judge: Judge) -> Result<(), String> {
    compare_within(names, reference, actual, judge, Leeway { slack: 1.0, floor: 0.0 })
}

/// What is allowed beyond the table.
#[derive(Clone, Copy, Debug)]
pub struct Leeway {
    /// Tolerances are this many times as large.
    pub slack: f64,
    /// Floating-point results may always differ by this much, see [`rounding_floor`].
    pub floor: f64,
}

/// The difference that rounding alone can make to results that are small because large values cancel: half a
/// unit in the last place of the largest value in the graph, for each of its operators.
///
/// An operator that errs by less than that can't be told from one that adds in another order. The result of
/// a cancellation says nothing of that size, which is why it is taken from the values before.
///
/// # Errors
/// If the graph can't be run.
pub fn rounding_floor(graph: &Graph, inputs: &[Tensor]) -> Result<f64, String> {
    let mut open = graph.clone();
    let operators =
        graph.nodes().filter(|&node| !matches!(graph.op(node), Op::Const(_) | Op::Input(_) | Op::Return(_)));
    let operators: Vec<_> = operators.collect();
    for value in operators.iter().flat_map(|&node| (0..graph.result_count(node)).map(move |i| node.result(i))) {
        open.add_result(&format!("value {} {}", graph.name(value.node), value.result), value);
    }
    let constants = graph.nodes().filter_map(|node| match graph.op(node) {
        Op::Const(constant) => Some(constant.decode()),
        _ => None,
    });
    let values = run(&Interp, &open, inputs)?.into_iter().chain(constants).chain(inputs.iter().cloned());
    let values = values.filter(|value| value.dtype().is_float()).flat_map(|value| value.data().to_f64());
    let largest = values.filter(|x| x.is_finite()).fold(0.0f64, |m, x| m.max(x.abs()));
    Ok(0.5 * f64::from(f32::EPSILON) * largest * operators.len() as f64)
}

/// As [`compare`], with some leeway.
///
/// # Errors
/// What differs, and where.
pub fn compare_within(
    names: &[&str],
    reference: &[Tensor],
    actual: &[Tensor],
    judge: Judge,
    leeway: Leeway,
) -> Result<(), String> {
    if reference.len() != actual.len() {
        return Err(format!("{} results instead of {}", actual.len(), reference.len()));
    }
    for ((name, reference), actual) in names.iter().zip(reference).zip(actual) {
        compare_tensor(reference, actual, judge, leeway).map_err(|e| format!("result {name}: {e}"))?;
    }
    Ok(())
}

fn compare_tensor(reference: &Tensor, actual: &Tensor, judge: Judge, leeway: Leeway) -> Result<(), String> {
    if reference.ty() != actual.ty() {
        return Err(format!("type {} instead of {}", actual.ty(), reference.ty()));
    }
    if judge == Judge::Exact && !reference.dtype().is_float() {
        return match reference == actual {
            true => Ok(()),
            false => Err("integers differ".to_owned()),
        };
    }
    let (x, y) = (reference.data().to_f64(), actual.data().to_f64());
    let largest = x.iter().filter(|x| x.is_finite()).fold(0.0f64, |m, x| m.max(x.abs()));
    let (scale, floor) = if reference.dtype().is_float() { (largest, leeway.floor) } else { (1.0, 0.0) };
    let allowed = (judge.tolerance(reference.dtype()) * scale * leeway.slack).max(floor);
    for (i, (&x, &y)) in x.iter().zip(&y).enumerate() {
        let equal = x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan());
        let close = judge != Judge::Exact && (x == y || (x - y).abs() <= allowed);
        if !equal && !close {
            return Err(format!("element {i} is {y} instead of {x}, {allowed:.3e} allowed"));
        }
    }
    Ok(())
}

/// Runs a graph on one backend.
///
/// # Errors
/// If it can't be run.
pub fn run(backend: &dyn Backend, graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
    let fail = |e: optc_ir::ExecError| format!("{}: {e}", backend.name());
    backend.compile(graph).map_err(fail)?.run(inputs).map_err(fail)
}

/// The names of the results of a graph.
pub fn result_names(graph: &Graph) -> Vec<&str> {
    graph.results().into_iter().map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judges_are_as_strict_as_they_say() {
        let of = |x: f32| [Tensor::f32([2], [1.0, x])];
        let nan = f32::from_bits(0xffc0_0001);
        for (x, y, judge, equal) in [
            (0.5, 0.5, Judge::Exact, true),
            (0.0, -0.0, Judge::Exact, false),
            (0.0, -0.0, Judge::Rounding, true),
            (f32::NAN, nan, Judge::Exact, true),
            (f32::NAN, 1.0, Judge::Rounding, false),
            (f32::INFINITY, f32::INFINITY, Judge::Rounding, true),
            (f32::INFINITY, 1.0, Judge::Rounding, false),
            (0.5, 0.500_004, Judge::Rounding, true),
            (0.5, 0.500_02, Judge::Rounding, false),
        ] {
            assert_eq!(compare(&["y"], &of(x), &of(y), judge).is_ok(), equal, "{x} {y} {judge:?}");
        }
    }
    #[test]
    fn the_floor_is_that_of_the_values_before_a_cancellation() {
        let text = "graph @g(%x: f32[2]) -> (y: f32[2]) {\n  %k = const f32[2] = [4096, -4096]\n  %a = add(%x, %k) : f32[2]\n  \
                    %b = sub(%a, %k) : f32[2]\n  return %b\n}\n";
        let graph = optc_ir::text::parse(text).unwrap();
        let inputs = [Tensor::f32([2], [0.0, 1e-3])];
        let floor = rounding_floor(&graph, &inputs).unwrap();
        // Two operators, values up to 4096: a unit in the last place there is 2⁻¹¹.
        assert!((floor / (2.0 * 4096.0 * 2f64.powi(-24)) - 1.0).abs() < 1e-6, "{floor}");
        let of = |x: f32| [Tensor::f32([1], [x])];
        let within = |y: f32| compare_within(&["y"], &of(0.0), &of(y), Judge::Rounding, Leeway { slack: 1.0, floor });
        assert!(within(0.9 * floor as f32).is_ok() && within(1.1 * floor as f32).is_err());
    }
}
