use super::*;
use crate::layout::{CodeImage, Pitch, Planar};
use crate::tile::testing::{GUARD, places, result};

/// To planes and back, each quad where the layouts say.
fn round_trip(shape: [usize; 4], border: usize) {
    let [images, channels, rows, columns] = shape;
    let quads = channels.div_ceil(4);
    let blocks = CodeImage::new(shape, [border; 4]);
    let pitch = Pitch { positions: columns + border, together: false };
    let planes = Planar::new([images, quads, rows, columns], pitch, [border; 4]);
    let (s, [image, plane, row, _]) = (blocks.strides(), planes.steps());
    let x: Vec<f32> = (0..blocks.bytes() / 4).map(|i| i as f32).collect();
    let regroup =
        |to_planes| Regroup { images, quads, rows, columns, blocks: s, planes: [image, plane, row], to_planes };
    let started = |to_planes| {
        move |vectors| {
            let regroup = regroup(to_planes);
            let mut schedule = regroup.schedule(vectors);
            let start = regroup.steps(signed(blocks.start()), signed(planes.start()));
            for part in &mut schedule.parts {
                part.start = std::array::from_fn(|i| part.start[i] + start[i]);
            }
            schedule
        }
    };
    let y = result(&shape, started(true), std::slice::from_ref(&x), planes.bytes() / 4);
    let in_blocks = |q: usize| {
        let at = places(&[images, rows, columns], &[s.image, s.row, s.column]);
        at.into_iter().map(move |at| blocks.start() / 4 + q / 4 * (s.block as usize / 4) + q % 4 + at)
    };
    let in_planes = |q: usize| {
        let at = places(&[images, rows, columns], &[image, row, 4]);
        at.into_iter().map(move |at| planes.start() / 4 + q * (plane as usize / 4) + at)
    };
    let mut expected = vec![GUARD; y.len()];
    for (from, to) in (0..quads).flat_map(|q| in_blocks(q).zip(in_planes(q))) {
        expected[to] = x[from];
    }
    assert_eq!(y, expected, "{shape:?}, border {border}");
    let back = result(&shape, started(false), &[y], x.len());
    for at in (0..quads).flat_map(in_blocks) {
        assert_eq!(back[at], x[at], "{shape:?}, border {border}: back");
    }
    let moved: usize = (0..quads.next_multiple_of(4)).map(|q| in_blocks(q).count()).sum();
    assert_eq!(back.iter().filter(|&&x| x == GUARD).count(), x.len() - moved, "{shape:?}: the border is left alone");
}

#[test]
fn quads_in_blocks_and_planes() {
    for shape in [[1, 1, 1, 1], [2, 20, 3, 5], [1, 64, 7, 7], [1, 13, 4, 16], [3, 33, 1, 37], [1, 4, 2, 19]] {
        round_trip(shape, 0);
        round_trip(shape, 1);
    }
}
