use super::*;
use crate::tile::testing::{GUARD, result};

#[test]
fn borders_alone_are_filled() {
    for [count, height, width, column] in [[1, 3, 3, 4], [5, 9, 12, 64], [2, 4, 300, 64], [3, 7, 5, 12]] {
        for pads in [[1, 1, 1, 1], [0, 2, 1, 0], [2, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]] {
            for value in [0.0, f32::NEG_INFINITY] {
                let lanes = column / 4;
                // Planes have a gap behind them.
                let step = height * width * lanes + 3;
                let planes = Planes { count, step: signed(step * 4), height, width, column };
                let fill = Fill::border(value, planes, pads);
                let [top, left, bottom, right] = pads;
                let buffer = result(&(planes, pads), |vectors| fill.schedule(vectors), &[], count * step);
                for (i, &y) in buffer.iter().enumerate() {
                    let (row, x) = (i % step / (width * lanes), i % step / lanes % width);
                    let inside = row >= top && row + bottom < height && x >= left && x + right < width;
                    let border = row < height && !inside;
                    assert_eq!(y, if border { value } else { GUARD }, "{planes:?} {pads:?} at {i}");
                }
            }
        }
    }
}
