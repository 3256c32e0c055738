use std::sync::Arc;

use super::*;
use crate::jit::testing::{all_vectors, numbers, run};
use crate::layout::{Pitch, Planar};
use crate::tile::spmm_unrolled::{Pattern, Unrolled};
use crate::tile::testing::{places, result};

/// A case: a convolution of stride 1 whose result has the extents of the image, the weights not zero where
/// `kept` says so of output and k.
#[derive(Clone, Copy, Debug)]
struct Case {
    images: usize,
    channels: [usize; 2],
    extents: [usize; 2],
    kernel: [usize; 2],
    kept: fn(usize, usize) -> bool,
    segments: usize,
    /// Whether a plane is added and a ReLU follows, then a factor for every channel.
    functions: bool,
}

const PLAIN: Case = Case {
    images: 1,
    channels: [3, 5],
    extents: [7, 7],
    kernel: [3, 3],
    kept: |o, k| (o * 5 + k * 3) % 4 == 0,
    segments: 1,
    functions: false,
};

/// What a buffer of planes holds: elements in order, and one number around them.
fn laid_out(image: &Planar, elements: &[f32], around: f32) -> Vec<f32> {
    let mut buffer = vec![around; image.bytes() / 4];
    let (extents, steps) = image.elements();
    for (at, &x) in places(&extents, &steps).into_iter().zip(elements) {
        buffer[image.start() / 4 + at] = x;
    }
    buffer
}

impl Case {
    /// Compares all targets with the definition.
    fn check(&self) {
        let [inputs, outputs] = self.channels;
        let [height, width] = self.extents;
        let [above, left] = self.kernel.map(|k| k / 2);
        let border = [above, left, above, left];
        let pitch = Pitch::of(self.images, self.extents, width + left);
        let from = Planar::new([self.images, inputs, height, width], pitch, border);
        let to = Planar::new([self.images, outputs, height, width], pitch, [0; 4]);
        let x = numbers(self.images * inputs * height * width, 1);
        let other = numbers(self.images * outputs * height * width, 2);
        let (taps, depth) = (self.kernel[0] * self.kernel[1], inputs * self.kernel[0] * self.kernel[1]);
        let mut weights = numbers(outputs * depth, 3);
        for (i, w) in weights.iter_mut().enumerate() {
            if !(self.kept)(i / depth, i % depth) {
                *w = 0.0;
            }
        }
        let (bias, factor) = (numbers(outputs, 4), numbers(outputs, 5));
        let [_, channel, row, column] = from.steps();
        let tap = |k: usize| (k / self.kernel[1], k % self.kernel[1]);
        let offsets: Vec<i32> = (0..depth)
            .map(|k| {
                let (i, j) = tap(k % taps);
                let (i, j) = (signed(i) - signed(above), signed(j) - signed(left));
                i32::try_from(channel * signed(k / taps) + row * i + column * j).unwrap()
            })
            .collect();
        let mut planes = Planes {
            images: to.images(),
            rows: outputs,
            pixels: height * width,
            lanes: LANES,
            vectors: to.vectors(),
            masked: to.has_gaps(),
            x: from.steps()[0],
            y: to.walk(),
            steps: Vec::new(),
            operands: Vec::new(),
            codes: None,
        };
        if self.functions {
            planes.steps = vec![
                (Function::Add, Other::Vector(0)),
                (Function::Relu, Other::None),
                (Function::Mul, Other::Vector(1)),
            ];
            planes.operands = vec![Operand::Plane(to.walk()), Operand::Channel];
        }
        let nonzeros = weights.iter().filter(|w| **w != 0.0).count();
        let spmm = |vectors| Spmm {
            chunk: Spmm::chunk(&planes, vectors),
            planes: planes.clone(),
            nonzeros,
            offsets: (*offsets.iter().min().unwrap(), *offsets.iter().max().unwrap()),
            segments: self.segments,
            ways: Spmm::ways(planes.vectors),
        };
        let matrix = Matrix::new(outputs, |o| (0, &weights[o * depth..][..depth]));
        let stream = spmm(Vectors::Clif).pack(&matrix, &offsets, |o| bias[o], |_, o| factor[o]).unwrap();
        let mut expected = vec![0.0; other.len()];
        for (at, sum) in expected.iter_mut().enumerate() {
            let (c, r, o, n) =
                (at % width, at / width % height, at / width / height % outputs, at / width / height / outputs);
            *sum = bias[o];
            for k in 0..depth {
                let (i, j) = tap(k % taps);
                let (Some(r), Some(c)) = ((r + i).checked_sub(above), (c + j).checked_sub(left)) else { continue };
                if r < height && c < width {
                    *sum += weights[o * depth + k] * x[((n * inputs + k / taps) * height + r) * width + c];
                }
            }
            if self.functions {
                *sum = (*sum + other[at]).max(0.0) * factor[o];
            }
        }
        let pattern = Arc::new(Pattern::new(&matrix, offsets.clone()));
        let unrolled = |vectors, panel| Unrolled {
            planes: planes.clone(),
            pattern: pattern.clone(),
            group: Unrolled::group(&planes, vectors),
            chunks: if to.vectors().is_multiple_of(self.segments) { self.segments } else { 1 },
            panel,
            cold: panel == Some(1),
        };
        // Driven by data; in code, by groups of rows, by single images, and all images together.
        let forms = [None, Some(None), Some(Some(1)), Some(Some(to.images()))];
        for (vectors, in_code) in all_vectors().into_iter().flat_map(|vectors| forms.map(|form| (vectors, form))) {
            let (mut schedule, numbers) = if let Some(panel) = in_code {
                let unrolled = unrolled(vectors, panel);
                let packed = unrolled.pack(&matrix, |o| bias[o], |_, o| factor[o]).unwrap();
                (unrolled.schedule(vectors), packed.numbers().to_vec())
            } else {
                (spmm(vectors).schedule(vectors), stream.numbers().to_vec())
            };
            schedule.parts.iter_mut().for_each(|part| part.start[0] += signed(from.start()));
            let mut buffers = vec![laid_out(&from, &x, 0.0), numbers, vec![f32::NAN; to.bytes() / 4]];
            buffers.extend(planes.masked.then(|| to.mask()));
            // What lies between pixels has no meaning for what is added.
            buffers.extend(self.functions.then(|| laid_out(&to, &other, f32::NAN)));
            let reach = schedule.reach();
            for (i, buffer) in buffers.iter().enumerate() {
                let inside = |(first, behind): (i64, i64)| first >= 0 && behind <= signed(buffer.len() * 4);
                assert!(reach.reads[i].is_none_or(inside) && reach.writes[i].is_none_or(inside), "{self:?}: {reach:?}");
            }
            run(vectors, &schedule, &mut buffers);
            assert_eq!(buffers[2], laid_out(&to, &expected, 0.0), "{vectors}, in code {in_code:?}: {self:?}");
        }
    }
}

#[test]
fn images_of_every_size() {
    for extents in [[1, 1], [1, 16], [3, 5], [4, 4], [5, 31], [13, 17], [16, 16], [9, 64]] {
        Case { extents, ..PLAIN }.check();
    }
}

#[test]
fn images_in_lanes() {
    for (images, extents, kernel) in [(16, [1, 1], [3, 3]), (32, [2, 2], [3, 3]), (32, [7, 7], [1, 1])] {
        Case { images, extents, kernel, ..PLAIN }.check();
        Case { images, extents, kernel, functions: true, segments: 3, ..PLAIN }.check();
    }
}

#[test]
fn kernels_and_channels() {
    for (kernel, channels) in [([1, 1], [17, 33]), ([5, 5], [1, 1]), ([1, 3], [4, 7]), ([3, 1], [2, 31])] {
        Case { kernel, channels, ..PLAIN }.check();
        Case { kernel, channels, images: 3, functions: true, segments: 3, ..PLAIN }.check();
    }
}

#[test]
fn rows_without_weights() {
    for kept in [|_, _| false, |o, _| o == 2, |o, k| o != 2 && k > 4, |_, _| true] {
        Case { kept, functions: true, ..PLAIN }.check();
        Case { kept, segments: 7, ..PLAIN }.check();
    }
}

/// The products of a group are more than a block of code takes.
#[test]
fn sums_wait_in_the_result() {
    Case { channels: [20, 30], kept: |_, _| true, functions: true, ..PLAIN }.check();
}

/// Fewer rows than a vector has lanes lie next to each other.
#[test]
fn few_positions() {
    let (outputs, depth) = (7, 37);
    for positions in [1, 2, 3, 8, 15] {
        let x = numbers(depth * positions + LANES, 1);
        let mut weights = numbers(outputs * depth, 2);
        weights.iter_mut().enumerate().filter(|(i, _)| i % 3 != 0).for_each(|(_, w)| *w = 0.0);
        let channel = signed(positions * 4);
        let mut planes = Planes::new([1, outputs, 1, positions]);
        (planes.vectors, planes.lanes, planes.y.channel) = (1, positions, channel);
        planes.steps = vec![(Function::Relu, Other::None)];
        let offsets: Vec<i32> = (0..depth).map(|k| i32::try_from(signed(k) * channel).unwrap()).collect();
        let matrix = Matrix::new(outputs, |o| (0, &weights[o * depth..][..depth]));
        let nonzeros = weights.iter().filter(|w| **w != 0.0).count();
        let spmm = Spmm { planes, nonzeros, offsets: (0, offsets[depth - 1]), segments: 2, chunk: 1, ways: 4 };
        let stream = spmm.pack(&matrix, &offsets, |o| o as f32, |_, _| 0.0).unwrap();
        let y = result(
            &spmm,
            |vectors| spmm.schedule(vectors),
            &[x.clone(), stream.numbers().to_vec()],
            outputs * positions,
        );
        for (at, y) in y.into_iter().enumerate() {
            let (o, p) = (at / positions, at % positions);
            let products = (0..depth).map(|k| weights[o * depth + k] * x[k * positions + p]);
            assert_eq!(y, (o as f32 + products.sum::<f32>()).max(0.0), "{positions} positions, row {o}");
        }
    }
}
