//! The function the executor calls: `fn(args, begin, end)` does the outer iterations `begin..end` of a
//! schedule, calling tile programs.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{FuncRef, InstBuilder, MemFlagsData, Value, types};
use cranelift_frontend::FunctionBuilder;

use crate::tile::{Axis, Nest, Part, Schedule, Steps, signed};

/// Emits the driver of a schedule into a function of the kernel signature, its entry block open. `programs`
/// are the schedule's, in order.
pub(crate) fn lower(b: &mut FunctionBuilder<'_>, params: [Value; 3], schedule: &Schedule, programs: &[FuncRef]) {
    let [args, begin, end] = params;
    let buffers: Vec<Value> = (0..schedule.pointers)
        .map(|i| b.ins().load(types::I64, MemFlagsData::trusted(), args, i32::try_from(i * 8).expect("few buffers")))
        .collect();
    let mut driver = Driver { b, programs, pointers: schedule.pointers };
    let mut first = 0;
    for part in &schedule.parts {
        let count = part.count();
        driver.part(&buffers, part, first, [begin, end]);
        first += count;
    }
}

struct Driver<'a, 'f> {
    b: &'a mut FunctionBuilder<'f>,
    programs: &'a [FuncRef],
    pointers: usize,
}

impl Driver<'_, '_> {
    /// The iterations of `begin..end` that belong to a part beginning at `first`.
    fn part(&mut self, buffers: &[Value], part: &Part, first: usize, [begin, end]: [Value; 2]) {
        let (from, to) = (self.int(first), self.int(first + part.count()));
        let from = self.b.ins().umax(begin, from);
        let to = self.b.ins().umin(end, to);
        let start = self.moved(buffers, &part.start);
        self.for_range(from, to, |d, i| {
            let mut rest = if first == 0 { i } else { d.b.ins().iadd_imm_s(i, -signed(first)) };
            let mut pointers = start.clone();
            for (depth, axis) in part.axes.iter().enumerate().rev() {
                let index = if depth == 0 {
                    rest
                } else {
                    let count = d.int(axis.count);
                    let index = d.b.ins().urem(rest, count);
                    rest = d.b.ins().udiv(rest, count);
                    index
                };
                d.step(&mut pointers, axis, index);
            }
            d.nest(&pointers, &part.nest);
        });
    }

    fn nest(&mut self, pointers: &[Value], nest: &Nest) {
        match nest {
            Nest::Call(program) => {
                let takes = self.b.func.dfg.ext_funcs[self.programs[*program]].signature;
                let takes = self.b.func.dfg.signatures[takes].params.len();
                self.b.ins().call(self.programs[*program], &pointers[..takes]);
            }
            Nest::At(steps, body) => {
                let moved = self.moved(pointers, steps);
                self.nest(&moved, body);
            }
            Nest::Loop(axis, body) => {
                let (from, to) = (self.int(0), self.int(axis.count));
                self.for_range(from, to, |d, i| {
                    let mut moved = pointers.to_vec();
                    d.step(&mut moved, axis, i);
                    d.nest(&moved, body);
                });
            }
            Nest::Seq(parts) => parts.iter().for_each(|part| self.nest(pointers, part)),
        }
    }

    /// Moves pointers to iteration `i` of a loop.
    fn step(&mut self, pointers: &mut [Value], axis: &Axis, i: Value) {
        for (pointer, &step) in pointers.iter_mut().zip(&axis.steps) {
            if step != 0 {
                let bytes = self.b.ins().imul_imm_s(i, step);
                *pointer = self.b.ins().iadd(*pointer, bytes);
            }
        }
    }

    fn moved(&mut self, pointers: &[Value], steps: &Steps) -> Vec<Value> {
        let mut moved = pointers.to_vec();
        for (pointer, &step) in moved.iter_mut().zip(&steps[..self.pointers]) {
            if step != 0 {
                *pointer = self.b.ins().iadd_imm_s(*pointer, step);
            }
        }
        moved
    }

    fn for_range(&mut self, from: Value, to: Value, mut body: impl FnMut(&mut Self, Value)) {
        let (head, inside, exit) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        let i = self.b.append_block_param(head, types::I64);
        self.b.ins().jump(head, &[from.into()]);
        self.b.switch_to_block(head);
        let more = self.b.ins().icmp(IntCC::UnsignedLessThan, i, to);
        self.b.ins().brif(more, inside, &[], exit, &[]);
        self.b.switch_to_block(inside);
        self.b.seal_block(inside);
        body(self, i);
        let next = self.b.ins().iadd_imm_s(i, 1);
        self.b.ins().jump(head, &[next.into()]);
        self.b.seal_block(head);
        self.b.switch_to_block(exit);
        self.b.seal_block(exit);
    }

    fn int(&mut self, n: usize) -> Value {
        self.b.ins().iconst(types::I64, signed(n))
    }
}
