//! What becomes of sums of products of codes: codes again, four rows of them in one plane of quads.

use super::{Beside, Operand, Planes};
use crate::tile::epilogue::Other;
use crate::tile::program::{Bin, Cmp, Inst, Mem, Src, Un, V, Writer};

/// Rows whose codes share a plane.
pub(crate) const QUAD: usize = 4;

/// How results become codes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Codes {
    /// The zero point.
    pub(crate) zero: u8,
    /// Whether numbers may be greater than an integer of 32 bits.
    pub(crate) large: bool,
}

impl Planes {
    /// Functions, mask and store of whole quads of sums, which are integers.
    pub(super) fn end_codes(&self, w: &mut Writer, sums: &[V], codes: Codes, at: impl Fn(Beside, usize) -> Mem) {
        for (quad, rows) in sums.chunks_exact(QUAD).enumerate() {
            rows.iter().for_each(|&sum| w.un(Un::FromInt, sum, sum));
            for &(function, other) in &self.steps {
                match other {
                    Other::None => function.apply(w, rows, |_| Src::Const(0.0)),
                    Other::Number(x) => function.apply(w, rows, |_| Src::Const(x)),
                    Other::Vector(operand) => {
                        function.apply(w, rows, |i| Src::Splat(at(Beside::Channel(operand), quad * QUAD + i)));
                    }
                    Other::Codes(operand) => {
                        debug_assert!(matches!(self.operands[operand], Operand::Plane(_)), "codes lie in planes");
                        let (quads, number) = (w.take(), w.take());
                        w.load(quads, at(Beside::Plane(self.planes_before(operand)), quad));
                        for (n, &sum) in (0..).zip(rows) {
                            w.un(Un::Byte(n), number, quads);
                            w.un(Un::FromInt, number, number);
                            function.apply(w, &[sum], |_| Src::Reg(number));
                        }
                        [number, quads].into_iter().for_each(|v| w.drop(v));
                    }
                }
            }
            self.store_quad(w, rows, codes, |what| at(what, quad));
        }
    }

    /// Stores four rows of numbers as quads of codes.
    fn store_quad(&self, w: &mut Writer, rows: &[V], codes: Codes, at: impl Fn(Beside) -> Mem) {
        for &v in rows {
            if codes.large {
                w.bin(Bin::Min, v, v, 255.0);
            }
            // Packing limits integers to what bytes hold; one below all integers is the least.
            w.un(Un::ToInt, v, v);
            if codes.zero > 0 {
                w.bin(Bin::AddInt, v, v, f32::from_bits(codes.zero.into()));
            }
        }
        let &[a, b, c, d] = rows else { unreachable!("rows are in fours") };
        w.bin(Bin::PackWords, a, a, b);
        w.bin(Bin::PackWords, c, c, d);
        w.bin(Bin::PackBytes, a, a, c);
        w.un(Un::TransposeBytes, a, a);
        if self.masked {
            let (zero, point) = (w.take(), w.take());
            w.set(zero, 0.0);
            w.set(point, f32::from_le_bytes([codes.zero; QUAD]));
            w.select(a, (Cmp::Less, zero, Src::Mem(at(Beside::Mask))), a, point);
            [point, zero].into_iter().for_each(|v| w.drop(v));
        }
        w.push(Inst::Store(at(Beside::Result), a));
    }
}
