//! Emission of kernels as Cranelift IR: loops, addresses and vectors of four `f32`.
//!
//! A kernel has the signature `fn(args, begin, end)`. Shapes are constants in the code; buffers come as
//! arguments; the outermost loop runs over `begin..end` so that the executor can split it.

pub(crate) mod elementwise;
pub(crate) mod gemm;
pub(crate) mod im2col;
pub(crate) mod math;
pub(crate) mod rows;
pub(crate) mod windows;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{Block, Function, InstBuilder, MemFlagsData, Type, Value, types};
use cranelift_codegen::isa::TargetFrontendConfig;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};

/// Lanes of a vector.
pub(crate) const LANES: usize = 4;

/// A vector of `f32`.
pub(crate) const VECTOR: Type = types::F32X4;

/// A function being emitted.
pub(crate) struct Emitter<'a> {
    /// The builder, for instructions that need no help.
    pub(crate) b: FunctionBuilder<'a>,
    args: Value,
    /// First outer iteration.
    pub(crate) begin: Value,
    /// End of the outer iterations.
    pub(crate) end: Value,
    has_fma: bool,
}

impl<'a> Emitter<'a> {
    /// Starts a function of the kernel signature.
    pub(crate) fn new(func: &'a mut Function, context: &'a mut FunctionBuilderContext, has_fma: bool) -> Emitter<'a> {
        let mut b = FunctionBuilder::new(func, context);
        let entry = b.create_block();
        b.append_block_params_for_function_params(entry);
        b.switch_to_block(entry);
        b.seal_block(entry);
        let params = b.block_params(entry);
        let (args, begin, end) = (params[0], params[1], params[2]);
        Emitter { b, args, begin, end, has_fma }
    }

    /// Ends the function.
    pub(crate) fn finish(mut self, config: TargetFrontendConfig) {
        self.b.ins().return_(&[]);
        self.b.finalize(config);
    }

    /// The address of buffer `i`.
    pub(crate) fn buffer(&mut self, i: usize) -> Value {
        let offset = i32::try_from(i * 8).expect("a kernel has few buffers");
        self.b.ins().load(types::I64, MemFlagsData::trusted(), self.args, offset)
    }

    /// An integer constant.
    pub(crate) fn int(&mut self, n: usize) -> Value {
        self.b.ins().iconst(types::I64, i64::try_from(n).expect("sizes are below 2^40"))
    }

    /// `base + index·scale`, all in bytes.
    pub(crate) fn offset(&mut self, base: Value, index: Value, scale: usize) -> Value {
        let scaled = self.scale(index, scale);
        self.b.ins().iadd(base, scaled)
    }

    /// `value·factor`.
    pub(crate) fn scale(&mut self, value: Value, factor: usize) -> Value {
        if factor == 1 {
            return value;
        }
        self.b.ins().imul_imm_s(value, i64::try_from(factor).expect("sizes are below 2^40"))
    }

    /// `value + n`.
    pub(crate) fn add(&mut self, value: Value, n: usize) -> Value {
        if n == 0 {
            return value;
        }
        self.b.ins().iadd_imm_s(value, i64::try_from(n).expect("sizes are below 2^40"))
    }

    /// The smaller of two unsigned integers.
    pub(crate) fn umin(&mut self, x: Value, y: Value) -> Value {
        self.b.ins().umin(x, y)
    }

    /// The larger of two unsigned integers.
    pub(crate) fn umax(&mut self, x: Value, y: Value) -> Value {
        self.b.ins().umax(x, y)
    }

    /// Loads a scalar or vector `offset` bytes after an address.
    pub(crate) fn load(&mut self, ty: Type, address: Value, offset: usize) -> Value {
        let (address, offset) = self.reach(address, offset);
        self.b.ins().load(ty, flags(), address, offset)
    }

    /// Stores a scalar or vector `offset` bytes after an address.
    pub(crate) fn store(&mut self, value: Value, address: Value, offset: usize) {
        let (address, offset) = self.reach(address, offset);
        self.b.ins().store(flags(), value, address, offset);
    }

    /// Splits an offset that does not fit the instruction.
    fn reach(&mut self, address: Value, offset: usize) -> (Value, i32) {
        match i32::try_from(offset) {
            Ok(offset) => (address, offset),
            Err(_) => (self.add(address, offset), 0),
        }
    }

    /// A constant in every lane of `ty`.
    pub(crate) fn float(&mut self, ty: Type, x: f32) -> Value {
        let scalar = self.b.ins().f32const(x);
        self.broadcast(ty, scalar)
    }

    /// A scalar in every lane of `ty`.
    pub(crate) fn broadcast(&mut self, ty: Type, scalar: Value) -> Value {
        if ty.is_vector() { self.b.ins().splat(ty, scalar) } else { scalar }
    }

    /// `x·y + z`, fused where the machine can.
    pub(crate) fn fma(&mut self, x: Value, y: Value, z: Value) -> Value {
        if self.has_fma {
            return self.b.ins().fma(x, y, z);
        }
        let product = self.b.ins().fmul(x, y);
        self.b.ins().fadd(product, z)
    }

    /// `for i in (from..to).step_by(step)` with values carried from one iteration to the next; returns what the
    /// last iteration leaves.
    pub(crate) fn fold(
        &mut self,
        from: Value,
        to: Value,
        step: usize,
        init: &[Value],
        mut body: impl FnMut(&mut Emitter<'a>, Value, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        let head = self.b.create_block();
        let inside = self.b.create_block();
        let exit = self.b.create_block();
        self.b.append_block_param(head, types::I64);
        for &value in init {
            let ty = self.b.func.dfg.value_type(value);
            self.b.append_block_param(head, ty);
        }
        self.jump(head, std::iter::once(from).chain(init.iter().copied()));
        self.b.switch_to_block(head);
        let params = self.b.block_params(head).to_vec();
        let (i, carried) = (params[0], &params[1..]);
        let more = self.b.ins().icmp(IntCC::UnsignedLessThan, i, to);
        self.b.ins().brif(more, inside, &[], exit, &[]);
        self.b.switch_to_block(inside);
        self.b.seal_block(inside);
        let next = body(self, i, carried);
        let i = self.add(i, step);
        self.jump(head, std::iter::once(i).chain(next));
        self.b.seal_block(head);
        self.b.switch_to_block(exit);
        self.b.seal_block(exit);
        carried.to_vec()
    }

    /// `for i in (from..to).step_by(step)`.
    pub(crate) fn for_range(
        &mut self,
        from: Value,
        to: Value,
        step: usize,
        mut body: impl FnMut(&mut Emitter<'a>, Value),
    ) {
        self.fold(from, to, step, &[], |e, i, _| {
            body(e, i);
            Vec::new()
        });
    }

    /// `for i in (0..n).step_by(step)`; nothing at all if `n` is zero, no loop if there is one iteration.
    pub(crate) fn for_count(&mut self, n: usize, step: usize, mut body: impl FnMut(&mut Emitter<'a>, Value)) {
        let zero = self.int(0);
        match n.div_ceil(step) {
            0 => {}
            1 => body(self, zero),
            _ => {
                let to = self.int(n);
                self.for_range(zero, to, step, body);
            }
        }
    }

    /// `if condition { body() } else { otherwise }`, both of as many values.
    pub(crate) fn choose(
        &mut self,
        condition: Value,
        otherwise: &[Value],
        body: impl FnOnce(&mut Emitter<'a>) -> Vec<Value>,
    ) -> Vec<Value> {
        let then = self.b.create_block();
        let join = self.b.create_block();
        for &value in otherwise {
            let ty = self.b.func.dfg.value_type(value);
            self.b.append_block_param(join, ty);
        }
        let args: Vec<_> = otherwise.iter().map(|&v| v.into()).collect();
        self.b.ins().brif(condition, then, &[], join, &args);
        self.b.switch_to_block(then);
        self.b.seal_block(then);
        let values = body(self);
        self.jump(join, values);
        self.b.switch_to_block(join);
        self.b.seal_block(join);
        self.b.block_params(join).to_vec()
    }

    fn jump(&mut self, block: Block, values: impl IntoIterator<Item = Value>) {
        let args: Vec<_> = values.into_iter().map(Into::into).collect();
        self.b.ins().jump(block, &args);
    }
}

/// Buffers hold `f32`, are in bounds, and need not be aligned for vectors.
fn flags() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

/// Covers `0..n` by tiles of at most `max` vectors, then scalars.
pub(crate) fn tiles(n: usize, max: usize) -> Vec<Tile> {
    let mut tiles = Vec::new();
    let mut start = 0;
    let wide = max * LANES;
    if wide == 0 {
        return vec![Tile { vectors: 0, start: 0, count: n }];
    }
    if n >= wide {
        tiles.push(Tile { vectors: max, start, count: n / wide });
        start += n / wide * wide;
    }
    let rest = (n - start) / LANES;
    if rest > 0 {
        tiles.push(Tile { vectors: rest, start, count: 1 });
        start += rest * LANES;
    }
    if start < n {
        tiles.push(Tile { vectors: 0, start, count: n - start });
    }
    tiles
}

/// A run of equal tiles along a contiguous axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tile {
    /// Vectors of a tile; 0 means that a tile is one scalar.
    pub(crate) vectors: usize,
    /// The first element.
    pub(crate) start: usize,
    /// The number of tiles.
    pub(crate) count: usize,
}

impl Tile {
    /// Elements of one tile.
    pub(crate) fn width(&self) -> usize {
        (self.vectors * LANES).max(1)
    }

    /// The type a tile is processed in.
    pub(crate) fn ty(&self) -> Type {
        if self.vectors == 0 { types::F32 } else { VECTOR }
    }

    /// Registers of one tile.
    pub(crate) fn registers(&self) -> usize {
        self.vectors.max(1)
    }

    /// Bytes from one register of a tile to the next.
    pub(crate) fn stride(&self) -> usize {
        16
    }
}
