//! Tile programs: straight-line vector code with counted loops, written once for every target.
//!
//! A register holds [`LANES`] `f32`; pointers are the program's arguments. A target decides how many machine
//! registers a vector takes: one of 512 bits, two of 256, four of 128. Every instruction acts on each lane
//! alone, or moves lanes in a fixed pattern, so all targets give the same bits.
//!
//! Invariant: a program reads and writes only what its caller laid out: it never looks at its pointers.

use std::fmt;

/// Lanes of a vector: the channels of a block, in every layout and on every target.
pub(crate) const LANES: usize = 16;

/// Bytes of a vector.
pub(crate) const VECTOR_BYTES: usize = LANES * 4;

/// A vector register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct V(pub(crate) u8);

/// A pointer: an argument of the program, or one behind them that it sets itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct P(pub(crate) u8);

/// Most pointers a program can take: the integer arguments of the System V calling convention.
pub(crate) const MAX_POINTERS: usize = 6;

/// The first pointer that a program sets itself.
pub(crate) const FIRST_LOCAL: usize = MAX_POINTERS;

/// Pointers that a program can set itself.
pub(crate) const MAX_LOCALS: usize = 4;

/// Registers that lowering needs for itself in programs that load quads of bytes.
pub(crate) const QUAD_REGISTERS: usize = 2;

/// Loops that may stand inside one another.
pub(crate) const MAX_DEPTH: usize = 4;

/// A place in memory: bytes after a pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Mem {
    pub(crate) base: P,
    pub(crate) offset: i32,
}

impl P {
    /// The pointer of an index.
    pub(crate) fn of(index: usize) -> P {
        P(u8::try_from(index).expect("a program takes few pointers"))
    }

    /// The place `offset` bytes after the pointer.
    pub(crate) fn at(self, offset: i64) -> Mem {
        Mem { base: self, offset: i32::try_from(offset).expect("a tile spans less than 2 GiB") }
    }
}

/// The last operand of an instruction.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Src {
    /// A register.
    Reg(V),
    /// A vector in memory.
    Mem(Mem),
    /// One `f32` in memory, in every lane.
    Splat(Mem),
    /// A number, in every lane.
    Const(f32),
}

/// Equality is that of bits, so that equal programs are equal code.
impl PartialEq for Src {
    fn eq(&self, other: &Src) -> bool {
        match (self, other) {
            (Src::Reg(a), Src::Reg(b)) => a == b,
            (Src::Mem(a), Src::Mem(b)) | (Src::Splat(a), Src::Splat(b)) => a == b,
            (Src::Const(a), Src::Const(b)) => a.to_bits() == b.to_bits(),
            _ => false,
        }
    }
}

impl From<V> for Src {
    fn from(v: V) -> Src {
        Src::Reg(v)
    }
}

impl From<f32> for Src {
    fn from(x: f32) -> Src {
        Src::Const(x)
    }
}

/// Functions of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bin {
    Add,
    Sub,
    Mul,
    Div,
    /// The second if either is NaN.
    Max,
    /// The second if either is NaN.
    Min,
    /// The sum of integers of 32 bits, which wraps.
    AddInt,
    /// Integers of 32 bits made words of 16, limited to what these hold: every four lanes become the four of `a`, then
    /// those of the second.
    PackWords,
    /// Words of 16 bits made bytes without sign, limited to what these hold: every four lanes become the eight words of
    /// `a`, then those of the second.
    PackBytes,
    /// The bits in which the operands differ.
    Xor,
}

/// Functions of one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Un {
    Sqrt,
    /// To nearest, ties to even.
    Round,
    Floor,
    Ceil,
    Abs,
    Neg,
    /// 2ˣ for an integral x from −126 to 127.
    Exp2,
    /// The integer of 32 bits nearest to a number, ties to even. Of a number that is too large, and of NaN, one that
    /// differs between targets but is 2³¹ − 1 or 2³¹ if it is taken without sign.
    ToInt,
    /// The number nearest to an integer of 32 bits.
    FromInt,
    /// The n-th byte of each lane, as an integer of 32 bits without sign.
    Byte(u8),
    /// The bytes of every four lanes, as a matrix of four rows of four bytes, transposed.
    TransposeBytes,
}

/// Comparisons; false if either is NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cmp {
    Less,
    Greater,
    Equal,
}

/// One instruction.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Inst {
    /// `d = s`
    Set(V, Src),
    /// The first lanes from memory, zeros in the others; reads no further.
    LoadLanes(V, Mem, u8),
    /// Stores a vector.
    Store(Mem, V),
    /// Stores the first lanes.
    StoreLanes(Mem, V, u8),
    /// `d = op(a, s)`
    Bin(Bin, V, V, Src),
    /// `d = op(a)`
    Un(Un, V, V),
    /// `d += a·s`, rounded once.
    Fma(V, V, Src),
    /// `d = d·a + s`, rounded once.
    MulAdd(V, V, Src),
    /// `d = x where cmp(a, s), y elsewhere`
    Select { d: V, cmp: Cmp, a: V, s: Src, x: V, y: V },
    /// `d[i] = a[i ^ distance]`, the distance 1, 2, 4 or 8.
    Swap(V, V, u8),
    /// `d[i] = s[i]` for the lanes from the n-th on.
    Merge(V, V, u8),
    /// Takes half of the lanes of `a` and of `b`. Of width 1, every four lanes become `a0 b0 a1 b1`, or
    /// `a2 b2 a3 b3` if high; of width 2, `a0 a1 b0 b1` or `a2 a3 b2 b3`. Of width 4, the even fours of `a` are
    /// followed by those of `b`, or the odd ones if high.
    Interleave { d: V, a: V, b: V, width: u8, high: bool },
    /// The even lanes of `a`, then those of `b`; or the odd ones. `d` is neither of them.
    Deinterleave { d: V, a: V, b: V, odd: bool },
    /// Stores four lanes, the n-th four of the vector.
    StoreFour(Mem, V, u8),
    /// Stores the first lanes of `v`, the i-th as many bytes behind `to` as the integer `at[i]` says. Whoever packed
    /// the integers sees to it that all lies in `span`, bytes from `to`.
    Scatter { to: Mem, at: V, v: V, lanes: u8, span: (i64, i64) },
    /// `d = a >> n`, lanes being integers of 32 bits without sign.
    Shr(V, Src, u8),
    /// `d[i]` is the lane of `low` whose number the low 4 bits of `index[i]` are; or, if there is a `high`, the lane
    /// of both whose number the low 5 bits are. `d` is none of the others.
    Lookup { d: V, index: V, low: V, high: Option<V> },
    /// Looks bytes up; see [`LookupBytes`].
    LookupBytes(Box<LookupBytes>),
    /// `d[i]` = the byte at the place and i behind it, as an integer of 32 bits without sign.
    LoadBytes(V, Mem),
    /// The same with sign.
    LoadSigned(V, Mem),
    /// Lane i becomes the i-th bytes of four times [`LANES`] bytes, the first in its lowest bits. A program with such
    /// loads leaves its last [`QUAD_REGISTERS`] registers alone.
    LoadQuads(V, Mem),
    /// Stores each lane as a byte: integers without sign, and 255 for all above it.
    StoreBytes(Mem, V),
    /// `d[i] += Σ` of the products of the four bytes of `x[i]`, without sign, and those of `w[i]`, with sign: integers
    /// of 32 bits, exact but that the sum wraps.
    Dot4 { d: V, x: V, w: Src },
    /// The bits of `x` where those of `mask` are set, of `y` elsewhere. `d` is neither of these.
    BitSelect { d: V, mask: V, x: V, y: V },
    /// How many bits of each lane are set, as an integer of 32 bits.
    CountOnes(V, V),
    /// Stores one bit a lane, the first in the lowest bit of the first byte: whether `cmp(a, 0)`.
    StoreBits(Mem, Cmp, V),
    /// Moves a pointer by bytes.
    Advance(P, i64),
    /// `d` = `base` plus the `i32` of bytes that stands at `at`. What the program then reads and writes through
    /// `d`, until it sets it again, lies in `span`, bytes from `base` as it is now; whoever packed the number
    /// sees to that.
    Follow { d: P, base: P, at: Mem, span: (i64, i64) },
    /// Brings the program's own code, and so many bytes after a pointer, near to the processor, all lines at once:
    /// a program that runs once in a while would wait for one after the other. It has no other effect, and none at
    /// all where it can't be said.
    Warm(P, usize),
    /// Runs the body so many times; at least twice.
    Loop(usize, Vec<Inst>),
    /// Runs the body as often as the `u32` at a place says. It moves no pointer but those that were followed.
    Repeat(Mem, Vec<Inst>),
}

/// `d[i][lane]` = the number whose code the byte `16·(lane / 4) + 4·i + lane % 4` of `codes` is, of a table that
/// registers hold byte by byte: for each of the four bytes of a number, the lowest first, those of 128 or 256 numbers
/// in order. Of codes the low 7 bits count where there are 128. Only targets that look up bytes can be asked for it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LookupBytes {
    pub(crate) d: [V; 4],
    pub(crate) codes: V,
    /// Two registers a byte, or four.
    pub(crate) planes: Vec<V>,
    /// What is overwritten.
    pub(crate) spare: [V; 2],
}

/// A tile program.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Program {
    /// Pointers it takes.
    pub(crate) pointers: usize,
    /// Its instructions.
    pub(crate) insts: Vec<Inst>,
}

impl Program {
    /// Instructions that touch vectors, those of loops as often as they run.
    #[cfg(test)]
    pub(crate) fn executed(&self) -> usize {
        fn count(insts: &[Inst]) -> usize {
            insts.iter().map(|inst| if let Inst::Loop(n, body) = inst { n * count(body) } else { 1 }).sum()
        }
        count(&self.insts)
    }
}

/// Writes a tile program; hands out registers.
#[derive(Debug)]
pub(crate) struct Writer {
    pointers: usize,
    /// The blocks being written, the innermost last.
    blocks: Vec<Vec<Inst>>,
    free: Vec<V>,
}

impl Writer {
    /// A program of so many pointers on a target of so many vector registers.
    pub(crate) fn new(pointers: usize, registers: usize) -> Writer {
        assert!(pointers <= MAX_POINTERS, "a program takes at most {MAX_POINTERS} pointers");
        let registers = u8::try_from(registers).expect("targets have few registers");
        Writer { pointers, blocks: vec![Vec::new()], free: (0..registers).rev().map(V).collect() }
    }

    /// Ends the program.
    pub(crate) fn finish(mut self) -> Program {
        let insts = self.blocks.pop().expect("the outermost block is open until here");
        assert!(self.blocks.is_empty(), "every loop is closed");
        Program { pointers: self.pointers, insts }
    }

    /// Registers that are free.
    pub(crate) fn registers(&self) -> usize {
        self.free.len()
    }

    /// A free register.
    ///
    /// # Panics
    /// If there is none: the schedule asked for more than the target has.
    pub(crate) fn take(&mut self) -> V {
        self.free.pop().expect("the schedule fits the registers of its target")
    }

    /// So many free registers.
    pub(crate) fn take_all(&mut self, n: usize) -> Vec<V> {
        (0..n).map(|_| self.take()).collect()
    }

    /// Gives a register back.
    pub(crate) fn drop(&mut self, v: V) {
        debug_assert!(!self.free.contains(&v), "a register is given back once");
        self.free.push(v);
    }

    /// Gives registers back, so that they are taken again in the same order.
    pub(crate) fn drop_all(&mut self, vs: &[V]) {
        vs.iter().rev().for_each(|&v| self.drop(v));
    }

    /// Appends an instruction.
    pub(crate) fn push(&mut self, inst: Inst) {
        self.blocks.last_mut().expect("a block is open").push(inst);
    }

    /// `d = s`
    pub(crate) fn set(&mut self, d: V, s: impl Into<Src>) {
        self.push(Inst::Set(d, s.into()));
    }

    /// Loads a vector.
    pub(crate) fn load(&mut self, d: V, from: Mem) {
        self.push(Inst::Set(d, Src::Mem(from)));
    }

    /// Loads the first lanes of a vector, zeros into the others.
    pub(crate) fn load_lanes(&mut self, d: V, from: Mem, lanes: usize) {
        match lanes_u8(lanes) {
            None => self.load(d, from),
            Some(lanes) => self.push(Inst::LoadLanes(d, from, lanes)),
        }
    }

    /// Stores a vector.
    pub(crate) fn store(&mut self, to: Mem, v: V) {
        self.push(Inst::Store(to, v));
    }

    /// Stores the first lanes of a vector.
    pub(crate) fn store_lanes(&mut self, to: Mem, v: V, lanes: usize) {
        match lanes_u8(lanes) {
            None => self.store(to, v),
            Some(lanes) => self.push(Inst::StoreLanes(to, v, lanes)),
        }
    }

    /// `d = op(a, s)`
    pub(crate) fn bin(&mut self, op: Bin, d: V, a: V, s: impl Into<Src>) {
        self.push(Inst::Bin(op, d, a, s.into()));
    }

    /// `d = op(a)`
    pub(crate) fn un(&mut self, op: Un, d: V, a: V) {
        self.push(Inst::Un(op, d, a));
    }

    /// `d += a·s`
    pub(crate) fn fma(&mut self, d: V, a: V, s: impl Into<Src>) {
        self.push(Inst::Fma(d, a, s.into()));
    }

    /// `d = d·a + s`
    pub(crate) fn mul_add(&mut self, d: V, a: V, s: impl Into<Src>) {
        self.push(Inst::MulAdd(d, a, s.into()));
    }

    /// `d[i] += Σ x[i]·w[i]` over the four bytes of a lane.
    pub(crate) fn dot4(&mut self, d: V, x: V, w: impl Into<Src>) {
        self.push(Inst::Dot4 { d, x, w: w.into() });
    }

    /// Loads bytes as numbers.
    pub(crate) fn load_codes(&mut self, d: V, from: Mem) {
        self.push(Inst::LoadBytes(d, from));
        self.un(Un::FromInt, d, d);
    }

    /// `d = x where cmp(a, s), y elsewhere`
    pub(crate) fn select(&mut self, d: V, (cmp, a, s): (Cmp, V, impl Into<Src>), x: V, y: V) {
        self.push(Inst::Select { d, cmp, a, s: s.into(), x, y });
    }

    /// `d = a >> n`, of integers.
    pub(crate) fn shr(&mut self, d: V, a: impl Into<Src>, n: usize) {
        let a = a.into();
        match u8::try_from(n).expect("below 32") {
            0 => self.set(d, a),
            n => self.push(Inst::Shr(d, a, n)),
        }
    }

    /// `d = table[index]`; see [`Inst::Lookup`].
    pub(crate) fn lookup(&mut self, d: V, index: V, table: &[V]) {
        let (&low, high) = table.split_first().expect("tables have one register or two");
        self.push(Inst::Lookup { d, index, low, high: high.first().copied() });
    }

    /// The bits of `x` where those of `mask` are set, of `y` elsewhere.
    pub(crate) fn bit_select(&mut self, d: V, mask: V, x: V, y: V) {
        self.push(Inst::BitSelect { d, mask, x, y });
    }

    /// How many bits of each lane are set.
    pub(crate) fn count_ones(&mut self, d: V, a: V) {
        self.push(Inst::CountOnes(d, a));
    }

    /// Stores one bit a lane: whether `cmp(a, 0)`.
    pub(crate) fn store_bits(&mut self, to: Mem, cmp: Cmp, a: V) {
        self.push(Inst::StoreBits(to, cmp, a));
    }

    /// Combines all lanes, leaving the result in each.
    pub(crate) fn reduce(&mut self, op: Bin, v: V) {
        let other = self.take();
        for distance in [8, 4, 2, 1] {
            self.push(Inst::Swap(other, v, distance));
            self.bin(op, v, v, other);
        }
        self.drop(other);
    }

    /// Stores the first lanes of `v` to places of their own; see [`Inst::Scatter`].
    pub(crate) fn scatter(&mut self, to: Mem, at: V, v: V, lanes: usize, span: (i64, i64)) {
        let lanes = u8::try_from(lanes).expect("a vector has few lanes");
        self.push(Inst::Scatter { to, at, v, lanes, span });
    }

    /// Takes the lanes behind the first `lanes` from another register.
    pub(crate) fn merge(&mut self, d: V, s: V, lanes: usize) {
        if let Some(lanes) = lanes_u8(lanes) {
            self.push(Inst::Merge(d, s, lanes));
        }
    }

    /// Moves a pointer by bytes.
    pub(crate) fn advance(&mut self, p: P, bytes: i64) {
        if bytes != 0 {
            self.push(Inst::Advance(p, bytes));
        }
    }

    /// Moves pointers by bytes, the first pointer first.
    pub(crate) fn advance_all(&mut self, steps: &[i64]) {
        for (p, &bytes) in (0..).zip(steps) {
            self.advance(P(p), bytes);
        }
    }

    /// Sets a pointer to what a number in memory says; see [`Inst::Follow`].
    pub(crate) fn follow(&mut self, d: P, base: P, at: Mem, span: (i64, i64)) {
        self.push(Inst::Follow { d, base, at, span });
    }

    /// Runs what `body` writes as often as a number in memory says.
    pub(crate) fn repeat_as(&mut self, count: Mem, body: impl FnOnce(&mut Writer)) {
        self.blocks.push(Vec::new());
        body(self);
        let inner = self.blocks.pop().expect("the block just opened");
        self.push(Inst::Repeat(count, inner));
    }

    /// Runs what `body` writes `count` times.
    pub(crate) fn repeat(&mut self, count: usize, body: impl FnOnce(&mut Writer)) {
        match count {
            0 => {}
            1 => body(self),
            _ => {
                self.blocks.push(Vec::new());
                body(self);
                let inner = self.blocks.pop().expect("the block just opened");
                self.push(Inst::Loop(count, inner));
            }
        }
    }
}

/// `None` for all lanes.
fn lanes_u8(lanes: usize) -> Option<u8> {
    assert!(0 < lanes && lanes <= LANES, "a vector has {LANES} lanes");
    (lanes < LANES).then(|| u8::try_from(lanes).expect("fewer than 16"))
}

impl fmt::Display for V {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

impl fmt::Display for Mem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[p{}{:+}]", self.base.0, self.offset)
    }
}

impl fmt::Display for Src {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Src::Reg(v) => write!(f, "{v}"),
            Src::Mem(m) => write!(f, "{m}"),
            Src::Splat(m) => write!(f, "splat {m}"),
            Src::Const(x) => write!(f, "{x:?}"),
        }
    }
}

/// One instruction a line; bodies of loops are indented.
impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_insts(f, &self.insts, 1)
    }
}

fn write_insts(f: &mut fmt::Formatter<'_>, insts: &[Inst], depth: usize) -> fmt::Result {
    for inst in insts {
        write!(f, "{:1$}", "", depth * 2)?;
        match inst {
            Inst::Set(d, s) => writeln!(f, "{d} = {s}")?,
            Inst::LoadLanes(d, m, n) => writeln!(f, "{d} = {m} lanes {n}")?,
            Inst::Store(m, v) => writeln!(f, "{m} = {v}")?,
            Inst::StoreLanes(m, v, n) => writeln!(f, "{m} = {v} lanes {n}")?,
            Inst::Bin(Bin::AddInt, d, a, Src::Const(x)) => writeln!(f, "{d} = addint {a}, {:#x}", x.to_bits())?,
            Inst::Bin(op, d, a, s) => writeln!(f, "{d} = {} {a}, {s}", word(op))?,
            Inst::Un(op, d, a) => writeln!(f, "{d} = {} {a}", word(op))?,
            Inst::Fma(d, a, s) => writeln!(f, "{d} += {a} * {s}")?,
            Inst::MulAdd(d, a, s) => writeln!(f, "{d} = {d} * {a} + {s}")?,
            Inst::Select { d, cmp, a, s, x, y } => writeln!(f, "{d} = {} {a}, {s} ? {x} : {y}", word(cmp))?,
            Inst::Swap(d, a, n) => writeln!(f, "{d} = swap {n} {a}")?,
            Inst::Merge(d, s, n) => writeln!(f, "{d} = {s} from lane {n}")?,
            Inst::Interleave { d, a, b, width, high } => {
                let half = if *high { "high" } else { "low" };
                writeln!(f, "{d} = interleave {half} {width} {a}, {b}")?;
            }
            Inst::Deinterleave { d, a, b, odd } => {
                let which = if *odd { "odd" } else { "even" };
                writeln!(f, "{d} = {which} {a}, {b}")?;
            }
            Inst::StoreFour(m, v, four) => writeln!(f, "{m} = {v} four {four}")?,
            Inst::Scatter { to, at, v, lanes, .. } => writeln!(f, "{to} each {at} = {v} lanes {lanes}")?,
            Inst::Shr(d, a, n) => writeln!(f, "{d} = {a} >> {n}")?,
            Inst::Lookup { d, index, low, high } => {
                let high = high.map_or(String::new(), |high| format!(" {high}"));
                writeln!(f, "{d} = lookup {index} in {low}{high}")?;
            }
            Inst::LookupBytes(look) => {
                let LookupBytes { d, codes, planes, .. } = &**look;
                let words = |vs: &[V]| vs.iter().map(|v| format!("{v} ")).collect::<String>();
                writeln!(f, "{}= bytes {codes} in {}", words(d), words(planes).trim_end())?;
            }
            Inst::LoadBytes(d, m) => writeln!(f, "{d} = bytes {m}")?,
            Inst::LoadSigned(d, m) => writeln!(f, "{d} = signed bytes {m}")?,
            Inst::LoadQuads(d, m) => writeln!(f, "{d} = quads {m}")?,
            Inst::StoreBytes(m, v) => writeln!(f, "bytes {m} = {v}")?,
            Inst::Dot4 { d, x, w } => writeln!(f, "{d} += dot4 {x}, {w}")?,
            Inst::BitSelect { d, mask, x, y } => writeln!(f, "{d} = bits {mask} ? {x} : {y}")?,
            Inst::CountOnes(d, a) => writeln!(f, "{d} = ones {a}")?,
            Inst::StoreBits(m, cmp, a) => writeln!(f, "bits {m} = {} {a}, 0", word(cmp))?,
            Inst::Advance(p, n) => writeln!(f, "p{} {n:+}", p.0)?,
            Inst::Warm(p, n) => writeln!(f, "warm code and {n} bytes of p{}", p.0)?,
            Inst::Follow { d, base, at, .. } => writeln!(f, "p{} = p{} + {at}", d.0, base.0)?,
            Inst::Loop(n, body) => {
                writeln!(f, "{n} times")?;
                write_insts(f, body, depth + 1)?;
            }
            Inst::Repeat(count, body) => {
                writeln!(f, "{count} times")?;
                write_insts(f, body, depth + 1)?;
            }
        }
    }
    Ok(())
}

fn word(op: impl fmt::Debug) -> String {
    format!("{op:?}").to_lowercase()
}
