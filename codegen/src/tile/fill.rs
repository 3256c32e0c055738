//! Sets regions of a buffer to a number: the borders of padded images.

use super::function::Function;
use super::map::{Map, MapOther};
use super::schedule::signed;
use super::schedule::{Schedule, offsets};
use crate::target::Vectors;

/// A box within a buffer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Region {
    /// Bytes from the beginning of the buffer.
    pub(crate) start: i64,
    pub(crate) shape: Vec<usize>,
    /// Bytes; that of the last axis is 4.
    pub(crate) strides: Vec<i64>,
}

/// What is filled, with everything that is baked into its code. The kernel takes one pointer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fill {
    pub(crate) value: f32,
    pub(crate) regions: Vec<Region>,
}

/// A stack of images one behind the other, borders included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Planes {
    pub(crate) count: usize,
    /// Bytes from one to the next.
    pub(crate) step: i64,
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// Bytes of a pixel; rows lie next to each other.
    pub(crate) column: usize,
}

impl Fill {
    /// Fills the borders of images: so many rows or columns at the top, left, bottom and right.
    pub(crate) fn border(value: f32, planes: Planes, [top, left, bottom, right]: [usize; 4]) -> Fill {
        let row = planes.width * planes.column;
        let inner = planes.height - top - bottom;
        // Rows, the bytes of each that are filled, and where the first begins.
        let rectangles = [
            (top, row, 0),
            (inner, left * planes.column, top * row),
            (inner, right * planes.column, top * row + row - right * planes.column),
            (bottom, row, (planes.height - bottom) * row),
        ];
        let region = |(rows, bytes, start)| Region {
            start: signed(start),
            shape: vec![planes.count, rows, bytes / 4],
            strides: vec![planes.step, signed(row), 4],
        };
        let regions = rectangles.into_iter().filter(|(rows, bytes, _)| rows * bytes > 0).map(region).collect();
        Fill { value, regions }
    }

    /// Elements written.
    pub(crate) fn elements(&self) -> usize {
        self.regions.iter().map(|region| region.shape.iter().product::<usize>()).sum()
    }

    /// The schedule: region after region.
    pub(crate) fn schedule(&self, vectors: Vectors) -> Schedule {
        let mut schedule = Schedule::new(1);
        // A map of no operands begins with zeros.
        let steps = match self.value.to_bits() {
            0 => Vec::new(),
            _ => vec![(Function::Add, MapOther::Number(self.value))],
        };
        for region in &self.regions {
            let map = Map::new(&region.shape, &region.strides, &[], steps.clone());
            map.append(&mut schedule, vectors, offsets([region.start]));
        }
        schedule
    }
}

#[cfg(test)]
mod tests;
