//! Places of values, and the conversions between layouts.

use optc_ir::{NodeId, Op, ValueId};

use super::Planner;
use crate::layout::{Blocked, Layout, image_shape, inverse, permuted, plain_strides, same_walk};
use crate::memory::Memory;
use crate::plan::{Arg, Place};
use crate::tile::copy::Copy;
use crate::tile::transpose::Transpose;
use crate::work::Work;

impl Planner<'_> {
    /// A new place for a value, in order of its axes.
    pub(super) fn place_plain(&mut self, value: ValueId, shape: &[usize]) -> Place {
        let buffer = self.buffer(shape.iter().product::<usize>() * 4);
        self.put(value, Place { buffer, layout: Layout::plain(shape) })
    }

    /// The layout of a result whose last axis is contiguous: in order of the axes, or of those of the transpose
    /// that alone reads it, so that the transpose has nothing to move.
    pub(super) fn strided_layout(&self, value: ValueId, shape: &[usize]) -> Layout {
        let Some(perm) = self.transposed_by(value, shape.len()) else { return Layout::plain(shape) };
        let moved: Vec<usize> = perm.iter().map(|&axis| shape[axis]).collect();
        Layout::Strided { start: 0, strides: permuted(&plain_strides(&moved), &inverse(&perm)) }
    }

    /// The permutation of the transpose that alone reads a value, if the last axis stays the last.
    fn transposed_by(&self, value: ValueId, rank: usize) -> Option<Vec<usize>> {
        let user = self.graph.sole_user(value)?;
        let Op::Transpose(transpose) = self.graph.op(user) else { return None };
        let perm = &transpose.perm;
        (perm.len() == rank && perm.last() == Some(&(rank - 1))).then(|| perm.clone())
    }

    /// A new place for an image in blocks, with the border its readers need, filled with zeros.
    pub(super) fn place_blocked(&mut self, node: NodeId, value: ValueId, shape: [usize; 4]) -> (Place, Blocked) {
        let border = self.borders.get(&value).copied().unwrap_or_default();
        let (place, image) = self.blocked_buffer(node, shape, border);
        (self.put(value, place), image)
    }

    fn blocked_buffer(&mut self, node: NodeId, shape: [usize; 4], border: [usize; 4]) -> (Place, Blocked) {
        let image = Blocked { shape, border };
        let buffer = self.buffer(image.bytes());
        if border != [0; 4] {
            self.kernel(node, image.clear_border(), vec![Arg::Buffer(buffer, 0)]);
            self.overlap();
        }
        (Place { buffer, layout: Layout::Blocked(image) }, image)
    }

    /// Records where a value lies.
    pub(super) fn put(&mut self, value: ValueId, place: Place) -> Place {
        self.places.entry(value).or_default().push(place.clone());
        place
    }

    /// The first place of a value that has one.
    pub(super) fn place(&self, value: ValueId) -> Option<&Place> {
        self.places.get(&value)?.first()
    }

    /// A value with strides: where it lies, or a copy in order of its axes if it is in blocks. Constants are
    /// packed as they are.
    pub(super) fn strided(&mut self, node: NodeId, value: ValueId) -> Option<(Arg, Vec<i64>)> {
        let shape = self.f32_shape(value)?;
        let Some(places) = self.places.get(&value) else {
            let arg = self.packed(value, "plain".to_owned(), Memory::copy)?;
            return Some((arg, plain_strides(&shape)));
        };
        for place in places {
            let strided = match &place.layout {
                Layout::Blocked(image) => image.as_strided(shape.len()),
                Layout::Planar(image) => image.as_strided(shape.len()),
                strided @ Layout::Strided { .. } => Some(strided.clone()),
            };
            if let Some(Layout::Strided { start, strides }) = strided {
                return Some((Arg::Buffer(place.buffer, start), strides));
            }
        }
        let place = places.first()?.clone();
        let (start, work): (usize, Work) = match place.layout {
            Layout::Blocked(image) => (image.start(), Transpose::from_blocked(image.shape, image.planes()).into()),
            Layout::Planar(image) => {
                let (extents, strides) = image.elements();
                (image.start(), Copy::new(&extents, &strides, &plain_strides(&extents)).into())
            }
            Layout::Strided { .. } => return None,
        };
        let to = self.place_plain(value, &shape);
        self.kernel(node, work, vec![Arg::Buffer(place.buffer, start), Arg::Buffer(to.buffer, 0)]);
        Some((Arg::Buffer(to.buffer, 0), plain_strides(&shape)))
    }

    /// A value in order of its axes.
    pub(super) fn plain(&mut self, node: NodeId, value: ValueId) -> Option<Arg> {
        let shape = self.f32_shape(value)?;
        for place in self.places.get(&value).into_iter().flatten() {
            if place.layout.is_plain(&shape) {
                return Some(Arg::Buffer(place.buffer, 0));
            }
        }
        let (from, strides) = self.strided(node, value)?;
        let wanted = plain_strides(&shape);
        if same_walk(&shape, &strides, &wanted) {
            return Some(from);
        }
        let to = self.place_plain(value, &shape);
        self.kernel(node, Copy::new(&shape, &strides, &wanted), vec![from, Arg::Buffer(to.buffer, 0)]);
        Some(Arg::Buffer(to.buffer, 0))
    }

    /// A value with strides, the elements of its last axis next to each other (or one for all).
    pub(super) fn contiguous(&mut self, node: NodeId, value: ValueId) -> Option<(Arg, Vec<i64>)> {
        let shape = self.f32_shape(value)?;
        let (arg, strides) = self.strided(node, value)?;
        match (shape.last(), strides.last()) {
            (Some(&n), Some(&stride)) if n > 1 && stride != 4 && stride != 0 => {
                Some((self.plain(node, value)?, plain_strides(&shape)))
            }
            _ => Some((arg, strides)),
        }
    }

    /// A value of rank 3 or 4 as an image in blocks with at least this border.
    pub(super) fn blocked(&mut self, node: NodeId, value: ValueId, border: [usize; 4]) -> Option<(usize, Blocked)> {
        let shape = self.f32_shape(value)?;
        let images = image_shape(&shape)?;
        for place in self.places.get(&value).into_iter().flatten() {
            if let Layout::Blocked(image) = place.layout
                && image.border.iter().zip(&border).all(|(has, needs)| has >= needs)
            {
                return Some((place.buffer, image));
            }
        }
        // Other readers may need more of a border: one copy serves all.
        let needed = self.borders.get(&value).copied().unwrap_or_default();
        let border = std::array::from_fn(|side| border[side].max(needed[side]));
        let source = self.place(value).cloned();
        if let Some(Place { buffer, layout: Layout::Blocked(from) }) = source {
            let (to, image) = self.blocked_buffer(node, images, border);
            let args = vec![Arg::Buffer(buffer, from.start()), Arg::Buffer(to.buffer, image.start())];
            self.kernel(node, Copy::new(&image.extents(), &from.walk(), &image.walk()), args);
            self.put(value, to.clone());
            return Some((to.buffer, image));
        }
        if let Some(Place { buffer, layout: Layout::Planar(from) }) = source {
            let (to, image) = self.blocked_buffer(node, images, border);
            let args = vec![Arg::Buffer(buffer, from.start()), Arg::Buffer(to.buffer, image.start())];
            let transpose = match from.steps() {
                steps if from.pitch.together => Transpose::from_images(images, steps, image.strides()),
                [image_step, channel, row, _] => {
                    Transpose::from_planes(images, [image_step, channel, row], image.strides())
                }
            };
            self.kernel(node, transpose, args);
            self.put(value, to.clone());
            return Some((to.buffer, image));
        }
        let from = self.plain(node, value)?;
        let (to, image) = self.blocked_buffer(node, images, border);
        let transpose = Transpose::to_blocked(images, image.planes());
        self.kernel(node, transpose, vec![from, Arg::Buffer(to.buffer, image.start())]);
        self.put(value, to.clone());
        Some((to.buffer, image))
    }

    /// Whether a value lies in blocks and nowhere else.
    pub(super) fn is_blocked(&self, value: ValueId) -> bool {
        self.place(value).is_some_and(|place| matches!(place.layout, Layout::Blocked(_)))
    }
}
