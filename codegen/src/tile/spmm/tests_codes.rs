use std::sync::Arc;

use super::*;
use crate::jit::testing::vectors_of_codes;
use crate::layout::{Pitch, Planar};
use crate::tile::spmm_unrolled::{Pattern, Unrolled};
use crate::tile::testing::{buffer_of_bytes, bytes, check_bytes, code, places};

/// A convolution of stride 1 whose result has the extents of the image, between codes.
#[derive(Clone, Copy, Debug)]
struct Case {
    images: usize,
    /// Quads of channels of x and of the result.
    quads: [usize; 2],
    extents: [usize; 2],
    kernel: [usize; 2],
    /// Which quads of weights are not zero, by output and k.
    kept: fn(usize, usize) -> bool,
    zeros: [u8; 2],
    /// Whether sums are rounded and codes are added.
    sum: bool,
    /// Whether factors are so large that results are no integers.
    large: bool,
    chunks: usize,
}

const PLAIN: Case = Case {
    images: 1,
    quads: [3, 2],
    extents: [7, 7],
    kernel: [3, 3],
    kept: |o, k| (o * 5 + k * 3) % 4 == 0,
    zeros: [17, 100],
    sum: false,
    large: false,
    chunks: 1,
};

/// What a buffer of planes of quads holds: codes in order of images, channels, rows and columns, and a number around.
fn laid_out(image: &Planar, codes: &[u8], around: u8) -> Vec<u8> {
    let mut buffer = vec![around; image.bytes()];
    let [n, quad, row, _] = image.steps();
    let [images, quads, height, width] = image.shape;
    let shape = [images, quads, QUAD, height, width];
    // In elements of four bytes, one for each byte of a quad.
    let at = places(&shape, &[n * 4, quad * 4, 4, row * 4, 16]);
    at.into_iter().zip(codes).for_each(|(at, &code)| buffer[image.start() + at] = code);
    buffer
}

impl Case {
    fn check(&self) {
        let [inputs, outputs] = self.quads.map(|quads| quads * QUAD);
        let [height, width] = self.extents;
        let [above, left] = self.kernel.map(|k| k / 2);
        let pitch = Pitch { positions: width + left, together: false };
        let from = Planar::new([self.images, self.quads[0], height, width], pitch, [above, left, above, left]);
        let to = Planar::new([self.images, self.quads[1], height, width], pitch, [0; 4]);
        let (taps, plane) = (self.kernel[0] * self.kernel[1], height * width);
        let x = bytes(self.images * inputs * plane, 1);
        let other = bytes(self.images * outputs * plane, 2);
        let mut weights: Vec<i8> = bytes(outputs * inputs * taps, 3).into_iter().map(u8::cast_signed).collect();
        for (i, w) in weights.iter_mut().enumerate() {
            let (o, c, tap) = (i / taps / inputs, i / taps % inputs, i % taps);
            if !(self.kept)(o, c / QUAD * taps + tap) {
                *w = 0;
            }
        }
        let weight = |o: usize, c: usize, tap: usize| weights[(o * inputs + c) * taps + tap];
        let begin: Vec<i32> = (0..outputs).map(|o| o as i32 * 1000 - 9000).collect();
        let factor = |o: usize| (o + 1) as f32 / if self.large { 1.0e-5 } else { 65_536.0 };
        let tap = |t: usize| (t / self.kernel[1], t % self.kernel[1]);
        let mut expected = Vec::new();
        for (at, &other) in other.iter().enumerate() {
            let (c, r, o, n) = (at % width, at / width % height, at / plane % outputs, at / plane / outputs);
            let mut sum = begin[o];
            for (i, t) in (0..inputs).flat_map(|i| (0..taps).map(move |t| (i, t))) {
                let (row, column) = ((r + tap(t).0).wrapping_sub(above), (c + tap(t).1).wrapping_sub(left));
                let inside = row < height && column < width;
                let x = if inside { x[((n * inputs + i) * height + row) * width + column] } else { self.zeros[0] };
                sum += i32::from(x) * i32::from(weight(o, i, t));
            }
            let mut y = sum as f32 * factor(o);
            if self.sum {
                y = y.round_ties_even().clamp(-128.0, 127.0).mul_add(0.5, 0.25);
                y = f32::from(other).mul_add(0.125, y);
            }
            expected.push(code(y, self.zeros[1]));
        }
        let [_, channel, row, _] = from.steps();
        let offsets = (0..self.quads[0] * taps).map(|k| {
            let (i, j) = tap(k % taps);
            let (i, j) = (signed(i) - signed(above), signed(j) - signed(left));
            i32::try_from(channel * signed(k / taps) + row * i + 4 * j).unwrap()
        });
        let mut planes = Planes::new([self.images, outputs, height, width]);
        (planes.vectors, planes.masked) = (to.vectors(), to.has_gaps());
        (planes.x, planes.y) = (from.steps()[0], to.walk());
        planes.codes = Some(Codes { zero: self.zeros[1], large: self.large });
        planes.operands = vec![Operand::Channel];
        planes.steps = vec![(Function::Mul, Other::Vector(0))];
        if self.sum {
            planes.operands.push(Operand::Plane(to.walk()));
            planes.steps.extend([
                (Function::Round, Other::None),
                (Function::Clip(-128.0, 127.0), Other::None),
                (Function::Scale(0.5, 0.25), Other::None),
                (Function::AddScaled(0.125), Other::Codes(1)),
            ]);
        }
        let matrix = Matrix::of_quads(outputs, |o| {
            let quad = move |k: usize| std::array::from_fn(|i| weight(o, k / taps * QUAD + i, k % taps));
            (0, (0..self.quads[0] * taps).map(quad))
        });
        let offsets: Vec<i32> = offsets.collect();
        let pattern = Arc::new(Pattern::new(&matrix, offsets.clone()));
        let begin = |o: usize| f32::from_bits(begin[o].cast_unsigned());
        for (vectors, in_code) in vectors_of_codes().into_iter().flat_map(|vectors| [(vectors, true), (vectors, false)])
        {
            let chunks = if to.vectors().is_multiple_of(self.chunks) { self.chunks } else { 1 };
            let (own, pattern) = (planes.clone(), pattern.clone());
            let (mut schedule, packed) = if in_code {
                let group = Unrolled::group(&own, vectors);
                let unrolled = Unrolled { planes: own, pattern, group, chunks, panel: None, cold: self.sum };
                (unrolled.schedule(vectors), unrolled.pack(&matrix, begin, |_, o| factor(o)).unwrap())
            } else {
                let spmm = Spmm {
                    chunk: Spmm::chunk(&own, vectors),
                    segments: self.chunks.min(self.quads[1]),
                    nonzeros: pattern.nonzeros(),
                    offsets: (*offsets.iter().min().unwrap(), *offsets.iter().max().unwrap()),
                    ways: 1,
                    planes: own,
                };
                (spmm.schedule(vectors), spmm.pack(&matrix, &offsets, begin, |_, o| factor(o)).unwrap())
            };
            schedule.parts.iter_mut().for_each(|part| {
                part.start[0] += signed(from.start());
                part.start[2] += signed(to.start());
            });
            let mut buffers = vec![buffer_of_bytes(&laid_out(&from, &x, self.zeros[0])), packed.numbers().to_vec()];
            buffers.extend(planes.masked.then(|| to.mask()));
            // What lies between pixels has no meaning for what is added.
            buffers.extend(self.sum.then(|| buffer_of_bytes(&laid_out(&to, &other, 0xaa))));
            let what = (self, in_code);
            check_bytes(&what, (vectors, &schedule), &buffers, 2, &laid_out(&to, &expected, self.zeros[1]));
        }
    }
}

#[test]
fn images_of_codes_of_every_size() {
    for extents in [[1, 1], [1, 16], [3, 5], [4, 4], [5, 31], [16, 16]] {
        Case { extents, ..PLAIN }.check();
        Case { extents, sum: true, images: 2, zeros: [0, 0], chunks: 2, ..PLAIN }.check();
    }
}

#[test]
fn rows_of_codes_in_fours() {
    for quads in [[1, 1], [2, 7], [5, 8], [1, 15]] {
        Case { quads, kernel: [1, 1], ..PLAIN }.check();
        Case { quads, kernel: [1, 3], sum: true, zeros: [255, 255], ..PLAIN }.check();
    }
}

#[test]
fn rows_without_weights_are_the_bias() {
    for kept in [|_, _| false, |o, _| o == 2, |o, k| o != 2 && k > 4, |_, _| true] {
        Case { kept, ..PLAIN }.check();
    }
}

/// A line of code as long as numbers have no blocks of.
#[test]
fn sums_of_codes_do_not_wait() {
    Case { quads: [30, 7], kept: |_, _| true, extents: [4, 5], ..PLAIN }.check();
}

#[test]
fn results_that_are_no_integers_are_limited() {
    Case { large: true, ..PLAIN }.check();
}
