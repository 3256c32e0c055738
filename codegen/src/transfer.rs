//! Moves tensors between their own order and the layouts of places.

use crate::layout::{Blocked, Layout, Planar};
use crate::tile::LANES;

/// The elements of a value, in order of its axes.
pub(crate) fn read(memory: &[f32], layout: &Layout, shape: &[usize], elements: &mut [f32]) {
    if layout.is_plain(shape) {
        elements.copy_from_slice(&memory[..elements.len()]);
        return;
    }
    let mut elements = elements.iter_mut();
    let mut take = |at: usize| {
        if let Some(x) = elements.next() {
            *x = memory[at];
        }
    };
    match layout {
        Layout::Strided { start, strides } => {
            let at = i64::try_from(start / 4).expect("sizes are below 2^40");
            walk(shape, strides, at, &mut take);
        }
        Layout::Blocked(image) => walk_blocks(image, &mut take),
        Layout::Planar(image) => walk_planes(image, &mut take),
    }
}

/// Stores elements that are in order of the axes.
pub(crate) fn write(memory: &mut [f32], layout: &Layout, shape: &[usize], elements: &[f32]) {
    if layout.is_plain(shape) {
        memory[..elements.len()].copy_from_slice(elements);
        return;
    }
    let mut elements = elements.iter();
    let mut put = |at: usize| {
        if let Some(&x) = elements.next() {
            memory[at] = x;
        }
    };
    match layout {
        Layout::Strided { start, strides } => {
            let at = i64::try_from(start / 4).expect("sizes are below 2^40");
            walk(shape, strides, at, &mut put);
        }
        Layout::Blocked(image) => walk_blocks(image, &mut put),
        Layout::Planar(image) => walk_planes(image, &mut put),
    }
}

fn walk(shape: &[usize], strides: &[i64], at: i64, visit: &mut impl FnMut(usize)) {
    let (Some((&n, shape)), Some((&stride, strides))) = (shape.split_first(), strides.split_first()) else {
        visit(usize::try_from(at).expect("views stay within their buffers"));
        return;
    };
    let mut at = at;
    for _ in 0..n {
        walk(shape, strides, at, visit);
        at += stride / 4;
    }
}

fn walk_planes(image: &Planar, visit: &mut impl FnMut(usize)) {
    let (extents, strides) = image.elements();
    let start = i64::try_from(image.start() / 4).expect("sizes are below 2^40");
    walk(&extents, &strides, start, visit);
}

fn walk_blocks(image: &Blocked, visit: &mut impl FnMut(usize)) {
    let [images, channels, rows, columns] = image.shape;
    let (height, width) = (image.rows(), image.columns());
    for n in 0..images {
        for c in 0..channels {
            for r in 0..rows {
                for column in 0..columns {
                    let plane = (n * image.blocks() + c / LANES) * height;
                    let pixel = (plane + r + image.border[0]) * width + column + image.border[1];
                    visit(pixel * LANES + c % LANES);
                }
            }
        }
    }
}
