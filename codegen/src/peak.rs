//! How fast this machine multiplies and adds: what kernels are measured against.

use std::time::Duration;

use optc_ir::ExecError;

use crate::exec;
use crate::target::{Target, Vectors};
use crate::tile::program::Writer;
use crate::tile::schedule::{STAY, offsets};
use crate::tile::{Axis, LANES, Nest, P, Part, Program, Schedule, VECTOR_BYTES, signed};

/// Outer iterations, to share among threads.
const RANGE: usize = 64;

/// Turns of the loop within each.
const TURNS: usize = 1000;

/// How long is measured: long enough for the clock to settle.
const SO_LONG: Duration = Duration::from_millis(100);

/// What is multiplied and added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elements {
    /// Numbers of 32 bits.
    F32,
    /// Codes of a byte, four products a lane.
    Codes,
}

/// Billions of operations a second that all threads of a target together reach in multiply-adds from register to
/// register, a multiply-add counting as two.
///
/// # Errors
/// If the host has not the target's instructions, or no more threads.
pub fn measure(target: &Target, elements: Elements) -> Result<f64, ExecError> {
    let mut schedule = Schedule::new(1);
    let call = Nest::Call(schedule.program(program(target.vectors, elements)));
    let axis = Axis { count: RANGE, steps: offsets([signed(VECTOR_BYTES)]) };
    schedule.parts.push(Part::new([axis], STAY, call));
    let time = exec::time(&schedule, RANGE * LANES, target, SO_LONG)?;
    let products = if elements == Elements::Codes { 4 } else { 1 };
    let operations = 2 * RANGE * TURNS * target.vectors.accumulators() * LANES * products;
    Ok(operations as f64 / time.as_secs_f64() / 1e9)
}

/// Sums in registers that take products until they are stored.
fn program(vectors: Vectors, elements: Elements) -> Program {
    let place = P(0).at(0);
    let mut w = Writer::new(1, vectors.registers());
    let factor = w.take();
    w.load(factor, place);
    let sums = w.take_all(vectors.accumulators());
    sums.iter().for_each(|&sum| w.set(sum, factor));
    w.repeat(TURNS, |w| {
        sums.iter().for_each(|&sum| match elements {
            Elements::F32 => w.fma(sum, factor, factor),
            Elements::Codes => w.dot4(sum, factor, factor),
        });
    });
    sums.iter().for_each(|&sum| w.store(place, sum));
    w.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_multiplies() {
        for elements in [Elements::F32, Elements::Codes] {
            let peak = measure(&Target::host(1), elements).unwrap();
            assert!(peak > 0.5 && peak < 1e5, "{peak} billions a second of {elements:?}");
        }
    }
}
