//! How fast this machine multiplies and adds, numbers, codes and signs, and reads: what kernels are measured against.

use std::time::Duration;

use optc_ir::ExecError;

use crate::exec;
use crate::target::{Target, Vectors};
use crate::tile::program::{Src, Writer};
use crate::tile::schedule::{STAY, offsets};
use crate::tile::sign_bits::WORD;
use crate::tile::{Axis, Bin, LANES, Nest, P, Part, Program, Schedule, V, VECTOR_BYTES, signed};

/// Outer iterations, to share among threads.
const RANGE: usize = 64;

/// Turns of the loop within each.
const TURNS: usize = 1000;

/// How long is measured: long enough for the clock to settle.
const SO_LONG: Duration = Duration::from_millis(100);

/// Codes multiplied in a lane.
const QUAD: usize = 4;

/// GFLOP/s of `f32` that all threads of a target together reach in multiply-adds from register to register,
/// a multiply-add counting as two.
///
/// # Errors
/// If the host has not the target's instructions, or no more threads.
pub fn measure(target: &Target) -> Result<f64, ExecError> {
    let multiply = |w: &mut Writer, sum: V, factor: V, _: V| w.fma(sum, factor, factor);
    Ok(2.0 * rate(target, multiply)? * LANES as f64)
}

/// As [`measure`], for bytes whose products are summed in integers of 32 bits.
///
/// # Errors
/// As [`measure`], and if the target has no code for them.
pub fn measure_codes(target: &Target) -> Result<f64, ExecError> {
    check_codes(target)?;
    let multiply = |w: &mut Writer, sum: V, factor: V, _: V| w.dot4(sum, factor, factor);
    Ok(2.0 * rate(target, multiply)? * (LANES * QUAD) as f64)
}

/// As [`measure`], for products of signs: the bits that differ are found, counted and summed.
///
/// # Errors
/// As [`measure`], and if the target has no code for them.
pub fn measure_signs(target: &Target) -> Result<f64, ExecError> {
    check_codes(target)?;
    let multiply = |w: &mut Writer, sum: V, word: V, differ: V| {
        w.bin(Bin::Xor, differ, word, sum);
        w.count_ones(differ, differ);
        w.bin(Bin::AddInt, sum, sum, differ);
    };
    Ok(2.0 * rate(target, multiply)? * (LANES * WORD) as f64)
}

fn check_codes(target: &Target) -> Result<(), ExecError> {
    let vectors = target.vectors;
    let missing = || ExecError::Backend(format!("{vectors} has no products of codes"));
    if vectors.multiply_codes() { Ok(()) } else { Err(missing()) }
}

/// How many times a nanosecond a sum takes what `step` writes, given the sum, a vector and a register of its own.
fn rate(target: &Target, step: impl Fn(&mut Writer, V, V, V)) -> Result<f64, ExecError> {
    let mut schedule = Schedule::new(1);
    let call = Nest::Call(schedule.program(program(target.vectors, step)));
    let axis = Axis { count: RANGE, steps: offsets([signed(VECTOR_BYTES)]) };
    schedule.parts.push(Part::new([axis], STAY, call));
    let time = exec::time(&schedule, RANGE * LANES, target, SO_LONG)?;
    Ok((RANGE * TURNS * target.vectors.accumulators()) as f64 / time.as_secs_f64() / 1e9)
}

/// Sums in registers that take products until they are stored.
fn program(vectors: Vectors, step: impl Fn(&mut Writer, V, V, V)) -> Program {
    let place = P(0).at(0);
    let mut w = Writer::new(1, vectors.registers());
    let (factor, other) = (w.take(), w.take());
    w.load(factor, place);
    let sums = w.take_all(vectors.accumulators());
    sums.iter().for_each(|&sum| w.set(sum, factor));
    w.repeat(TURNS, |w| sums.iter().for_each(|&sum| step(w, sum, factor, other)));
    sums.iter().for_each(|&sum| w.store(place, sum));
    w.finish()
}

/// Bytes read at a time, and how often: more than a processor keeps in caches of its own.
const PIECE: usize = 64 << 10;
const PIECES: usize = 256;

/// Vectors in a turn of the loop that reads.
const VECTORS: usize = 8;

/// GB/s that all threads of a target together read in order, of what is too large for a processor's own caches.
/// What layers read that stays there comes faster.
///
/// # Errors
/// As [`measure`].
pub fn bandwidth(target: &Target) -> Result<f64, ExecError> {
    let mut schedule = Schedule::new(2);
    let call = Nest::Call(schedule.program(reader(target.vectors)));
    let axis = Axis { count: PIECES, steps: offsets([signed(PIECE), signed(PIECE)]) };
    schedule.parts.push(Part::new([axis], STAY, call));
    let time = exec::time(&schedule, PIECES * PIECE / 4, target, SO_LONG)?;
    Ok((PIECES * PIECE) as f64 / time.as_secs_f64() / 1e9)
}

/// Adds all vectors of a piece to its first, whose place the second pointer keeps.
fn reader(vectors: Vectors) -> Program {
    let mut w = Writer::new(2, vectors.registers());
    let sums = w.take_all(vectors.accumulators().min(VECTORS));
    sums.iter().for_each(|&sum| w.set(sum, 0.0));
    w.repeat(PIECE / VECTOR_BYTES / VECTORS, |w| {
        for (i, &sum) in (0..VECTORS).zip(sums.iter().cycle()) {
            w.bin(Bin::Add, sum, sum, Src::Mem(P(0).at(signed(i * VECTOR_BYTES))));
        }
        w.advance(P(0), signed(VECTORS * VECTOR_BYTES));
    });
    sums.iter().for_each(|&sum| w.store(P(1).at(0), sum));
    w.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_multiplies() {
        let host = Target::host(1);
        for measure in [measure, measure_codes, measure_signs] {
            match measure(&host) {
                Ok(peak) => assert!(peak > 0.5 && peak < 1e6, "{peak} billions a second"),
                Err(error) => assert!(!host.vectors.multiply_codes(), "{error}"),
            }
        }
        let bandwidth = bandwidth(&Target::host(1)).unwrap();
        assert!(bandwidth > 0.5 && bandwidth < 1e5, "{bandwidth} GB/s");
    }
}
