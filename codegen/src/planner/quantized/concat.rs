//! Codes joined along channels: blocks of channels are brought one after the other, those of another grid with a
//! requantization.

use optc_ir::{NodeId, ValueId};

use super::find::Grid;
use super::{CodePlace, recode_of, recoding};
use crate::plan::Arg;
use crate::planner::Planner;
use crate::tile::copy::Copy;
use crate::tile::epilogue::{Other, Recoding};
use crate::tile::function::Function;
use crate::tile::recode::{Format, Recode};
use crate::tile::{LANES, signed};

impl Planner<'_> {
    pub(super) fn concat_of_codes(&mut self, end: NodeId, values: &[ValueId], grid: Grid) -> Option<()> {
        let parts = values.iter().map(|value| self.codes_in_blocks(end, *value)).collect::<Option<Vec<CodePlace>>>()?;
        let place = self.place_codes(end, grid, LANES)?;
        let to = place.image.strides();
        let mut at = place.image.start();
        for (i, from) in parts.into_iter().enumerate() {
            let args = vec![from.arg(), Arg::Buffer(place.buffer, at)];
            let blocks = from.image.blocks();
            let [images, _, rows, columns] = from.image.shape;
            if from.grid == grid {
                // Four bytes at a time.
                let steps = from.image.strides();
                let shape = [images, blocks, rows, columns, LANES / 4];
                let walk = [steps.image, steps.block, steps.row, steps.column, 4];
                let to_walk = [to.image, to.block, to.row, to.column, 4];
                self.kernel(end, Copy::new(&shape, &walk, &to_walk), args);
            } else {
                let Recoding { factor, offset, .. } = recoding(from.grid, grid);
                let recode = Recode {
                    y: to,
                    steps: vec![(Function::Scale(factor, offset), Other::None)],
                    ..recode_of(&from, Format::Codes(grid.zero))
                };
                self.kernel(end, recode, args);
            }
            if i + 1 < values.len() {
                self.overlap();
            }
            at += usize::try_from(to.block * signed(blocks)).expect("blocks lie forward");
        }
        Some(())
    }
}
