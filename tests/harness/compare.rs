//! When two results count as equal: the one table of tolerances.

use optc_ir::{Backend, DType, Graph, Tensor};
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
    compare_within(names, reference, actual, judge, 1.0)
}

/// As [`compare`], with tolerances `slack` times as large.
///
/// # Errors
/// What differs, and where.
pub fn compare_within(
    names: &[&str],
    reference: &[Tensor],
    actual: &[Tensor],
    judge: Judge,
    slack: f64,
) -> Result<(), String> {
    if reference.len() != actual.len() {
        return Err(format!("{} results instead of {}", actual.len(), reference.len()));
    }
    for ((name, reference), actual) in names.iter().zip(reference).zip(actual) {
        compare_tensor(reference, actual, judge, slack).map_err(|e| format!("result {name}: {e}"))?;
    }
    Ok(())
}

fn compare_tensor(reference: &Tensor, actual: &Tensor, judge: Judge, slack: f64) -> Result<(), String> {
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
    let scale = if reference.dtype().is_float() { largest } else { 1.0 };
    let allowed = judge.tolerance(reference.dtype()) * scale * slack;
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
}
