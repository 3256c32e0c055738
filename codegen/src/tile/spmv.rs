//! Sparse matrices times few rows: `y[i, o] = epilogue(bias[o] + Σₖ w[o, k]·x[i, k])` for rows i and outputs o, over
//! the k whose weight is not zero.
//!
//! Lanes are outputs: a slice of them, with about equally many weights each (SELL-C-σ, Kreutzer et al. 2014). Each
//! lane walks its own weights in order of k. What they are multiplied by is picked, lane by lane, out of a window of
//! x that two registers hold: it begins at the first k that a lane has still to do, serves every lane for a few
//! slots, and moves on, so that lanes with more weights in one place catch up in another. A slot is a number of
//! five bits for each lane, which says where in the window its element is, and a weight.
//!
//! Weights that share few values are numbers too, of five bits, by which values are picked out of a codebook in
//! registers; they are never expanded in memory. Where there are more values, up to 256, such numbers are bytes, and
//! the codebook is one that [`LookupBytes`] finds them in.
//!
//! Where a lane has no weight for a slot, it multiplies some element of x by zero.
//!
//! Invariant: every sum takes its products in order of k, by two turns; so all targets give the same bits.

mod slots;

pub(crate) use slots::{Codebook, groups};

use super::bytes::{BYTES, MAX_BYTES, planes_vectors};
use super::epilogue::Other;
use super::function::Function;
use super::program::{Bin, FIRST_LOCAL, Inst, LANES, LookupBytes, Mem, P, Program, Src, V, VECTOR_BYTES, Writer};
use super::schedule::{Axis, Nest, Part, STAY, Schedule, signed};
use crate::target::Vectors;

/// Pointers of the kernel: x, the stream, y.
const X: P = P(0);
const STREAM: P = P(1);
const Y: P = P(2);

/// Elements of a window: two vectors.
pub(crate) const WINDOW: usize = 2 * LANES;

/// Slots that a window serves.
pub(crate) const SLOTS: usize = 3;

/// Bits that a place in a window takes, and those of a code that is no byte.
const BITS: usize = 5;

/// Slots whose places are in one vector, where no codes stand beside them.
const PLACES: usize = 32 / BITS;

/// Most rows of x that the kernel is made for.
pub(crate) const MAX_ROWS: usize = 4;

/// Sums of a result that take products by turns, since each waits for its last one.
const WAYS: usize = 2;

/// Registers of targets that hold windows, for all rows, and the codebook.
const MANY_REGISTERS: usize = 32;

/// Words of the table at the beginning of the stream for each slice: where its vectors are, where the places of its
/// windows are, how many groups it has, where the codebook is; places are bytes from the entry.
const ENTRY_WORDS: usize = 4;
const VECTORS: i64 = 0;
const WINDOWS: i64 = 4;
const GROUPS: i64 = 8;
const CODEBOOK: i64 = 12;

/// Vectors before the slots of a slice: biases and where results go, then those of operands.
const HEAD: usize = 2;

const WORD: i64 = 4;

/// A product with everything that is baked into its code.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spmv {
    /// Rows, in a grid, and how far they are apart in x and in y; elements of a row of x are next to each other.
    pub(crate) rows: [Axis; 2],
    pub(crate) outputs: usize,
    /// Bytes of y from one block of [`LANES`] outputs to the next.
    pub(crate) block: i64,
    /// Elements of a row of x. Whole windows are read, also of rows that are shorter.
    pub(crate) depth: usize,
    /// Weights that are not zero.
    pub(crate) nonzeros: usize,
    /// How weights are kept.
    pub(crate) form: Form,
    /// Groups of slots in all slices, as [`groups`] counts them.
    pub(crate) groups: usize,
    /// Threads that slices are dealt out to.
    pub(crate) threads: usize,
    /// Functions in order; with the index of an operand where they take one.
    pub(crate) steps: Vec<(Function, Other)>,
    /// Operands, each one number an output.
    pub(crate) operands: usize,
}

/// How weights are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As they are.
    Numbers,
    /// As numbers of five bits in a codebook.
    Codes,
    /// As bytes: numbers in a codebook of so many values, zero among them.
    Bytes(usize),
}

impl Form {
    /// The form of so many values that saves the most, for products of so many rows.
    pub(crate) fn of(values: Option<usize>, rows: usize, vectors: Vectors) -> Form {
        match values {
            Some(..=WINDOW) => Form::Codes,
            Some(values) if values <= MAX_BYTES && vectors.look_up_bytes() => {
                let form = Form::Bytes(values);
                // Places in a vector, and for each row a window and two sums.
                let registers = form.codebook_vectors() + BYTES + 3 + 1 + rows * (WINDOW / LANES + WAYS);
                if registers <= vectors.registers() { form } else { Form::Numbers }
            }
            _ => Form::Numbers,
        }
    }

    /// Windows of a group: as many as have the places of all their slots, or these and the codes, in whole vectors.
    pub(crate) const fn windows(self) -> usize {
        match self {
            Form::Numbers => 2,
            Form::Codes => 1,
            Form::Bytes(_) => 4,
        }
    }

    const fn slots(self) -> usize {
        self.windows() * SLOTS
    }

    /// Vectors that have the places of a group, and then those that have its weights.
    fn vectors(self) -> [usize; 2] {
        match self {
            Form::Numbers => [1, self.slots()],
            Form::Codes => [1, 0],
            Form::Bytes(_) => [self.slots() / PLACES, self.slots() / BYTES],
        }
    }

    /// Vectors of the codebook.
    fn codebook_vectors(self) -> usize {
        match self {
            Form::Numbers => 0,
            Form::Codes => WINDOW / LANES,
            Form::Bytes(values) => planes_vectors(values),
        }
    }

    /// What kernels are called by.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Form::Numbers => "f32",
            Form::Codes => "c5",
            Form::Bytes(_) => "c8",
        }
    }
}

impl Spmv {
    /// Rows of x.
    pub(crate) fn row_count(&self) -> usize {
        self.rows[0].count * self.rows[1].count
    }

    /// Multiplications that count.
    pub(crate) fn macs(&self) -> usize {
        self.row_count() * self.nonzeros
    }

    /// Bytes from where an output stands in a row of y to the first of all.
    fn place(&self, output: usize) -> i64 {
        signed(output / LANES) * self.block + signed(output % LANES) * WORD
    }

    /// Slots in all slices: vectors of products for each row.
    pub(crate) fn slots(&self) -> usize {
        self.groups * self.form.slots()
    }

    /// Bytes of the stream.
    pub(crate) fn bytes(&self) -> usize {
        self.words() * 4
    }

    fn slices(&self) -> usize {
        self.outputs.div_ceil(LANES)
    }

    /// Vectors of a group.
    fn group_vectors(&self) -> usize {
        self.form.vectors().iter().sum()
    }

    /// Vectors of a slice of no groups.
    fn head_vectors(&self) -> usize {
        HEAD + self.operands
    }

    /// Words of the table, up to a whole vector.
    fn table_words(&self) -> usize {
        (self.slices() * ENTRY_WORDS).next_multiple_of(LANES)
    }

    /// Words of the stream: the table, the codebook, the vectors of all slices, the places of all windows.
    fn words(&self) -> usize {
        let slices = self.slices() * self.head_vectors();
        let vectors = self.form.codebook_vectors() + slices + self.groups * self.group_vectors();
        self.table_words() + vectors * LANES + self.groups * self.form.windows()
    }

    /// Rows that share what is read of the weights, as a part of the grid.
    pub(crate) fn tile(grid: [usize; 2], vectors: Vectors) -> [usize; 2] {
        let largest = |n: usize, most: usize| (1..=most.min(n)).rfind(|&part| n.is_multiple_of(part)).unwrap_or(1);
        if vectors.registers() < MANY_REGISTERS {
            return [1, 1];
        }
        let inner = largest(grid[1], MAX_ROWS);
        [if inner == grid[1] { largest(grid[0], MAX_ROWS / inner) } else { 1 }, inner]
    }

    /// The schedule: slices, tiles of rows.
    pub(crate) fn schedule(&self, vectors: Vectors) -> Schedule {
        let mut schedule = Schedule::new(3);
        let tile = Spmv::tile(self.rows.map(|axis| axis.count), vectors);
        let tiles = [0, 1].map(|i| {
            let Axis { count, steps } = self.rows[i];
            Axis { count: count / tile[i], steps: steps.map(|step| step * signed(tile[i])) }
        });
        let (whole, rest) = (self.outputs / LANES, self.outputs % LANES);
        let entry = WORD * signed(ENTRY_WORDS);
        for (first, count, lanes) in [(0, whole, LANES), (whole, 1, rest)] {
            if count == 0 || lanes == 0 {
                continue;
            }
            let nest = Nest::Call(schedule.program(self.program(vectors, tile, lanes)));
            let axes = [Axis::new(count, [0, entry]), tiles[0], tiles[1]];
            let mut start = STAY;
            start[1] = entry * signed(first);
            schedule.parts.push(Part::new(axes, start, nest));
        }
        schedule
    }

    /// A slice of so many outputs, for a tile of rows.
    fn program(&self, vectors: Vectors, tile: [usize; 2], lanes: usize) -> Program {
        let [x, stream, windows, codebook] = [0, 1, 2, 3].map(|i| P::of(FIRST_LOCAL + i));
        let many = vectors.registers() >= MANY_REGISTERS;
        // Where each row of the tile begins, in x and in y.
        let starts: Vec<[i64; 2]> = (0..tile[0])
            .flat_map(|i| (0..tile[1]).map(move |j| [i, j]))
            .map(|at| [0, 2].map(|pointer| (0..2).map(|k| signed(at[k]) * self.rows[k].steps[pointer]).sum()))
            .collect();
        let mut w = Writer::new(3, vectors.registers());
        let span = (0, signed(self.words()) * WORD);
        w.follow(stream, STREAM, STREAM.at(VECTORS), span);
        w.follow(windows, STREAM, STREAM.at(WINDOWS), span);
        let sums: Vec<[V; WAYS]> = starts.iter().map(|_| [w.take(), w.take()]).collect();
        for [first, second] in &sums {
            w.load(*first, stream.at(0));
            w.set(*second, 0.0);
        }
        let rows: Vec<Table> = starts.iter().map(|&[from, _]| Table::new(&mut w, x, from, many)).collect();
        if self.form != Form::Numbers {
            w.follow(codebook, STREAM, STREAM.at(CODEBOOK), span);
        }
        let values = (self.form == Form::Codes).then(|| {
            let values = Table::new(&mut w, codebook, 0, many);
            values.load(&mut w);
            values
        });
        let bytes = match self.form {
            Form::Bytes(_) => Some(Bytes::new(&mut w, codebook, self.form)),
            _ => None,
        };
        let numbers = many.then(|| w.take());
        w.advance(stream, vector(self.head_vectors()));
        let last = starts.iter().map(|start| start[0]).max().unwrap_or(0);
        let x_span = (0, signed(self.depth.max(WINDOW)) * WORD + last);
        w.repeat_as(STREAM.at(GROUPS), |w| {
            // What begins at a bit of each lane, in `d` if not where it is; the bits above it do no harm.
            let bits = |w: &mut Writer, d: V, first: usize| match numbers {
                Some(numbers) if first == 0 => numbers,
                Some(numbers) => {
                    w.shr(d, numbers, first);
                    d
                }
                None => {
                    w.shr(d, Src::Mem(stream.at(0)), first);
                    d
                }
            };
            let [places, _] = self.form.vectors();
            for slot in 0..self.form.slots() {
                if let Some(numbers) = numbers.filter(|_| slot % PLACES == 0) {
                    w.load(numbers, stream.at(vector(slot / PLACES)));
                }
                if slot % SLOTS == 0 {
                    w.follow(x, X, windows.at(WORD * signed(slot / SLOTS)), x_span);
                    rows.iter().for_each(|row| row.load(w));
                }
                if let Some(bytes) = bytes.as_ref().filter(|_| slot % BYTES == 0) {
                    bytes.load(w, stream.at(vector(places + slot / BYTES)));
                }
                let index = w.take();
                let stored = match &bytes {
                    Some(bytes) => Src::Reg(bytes.numbers[slot % BYTES]),
                    None => Src::Mem(stream.at(vector(places + slot))),
                };
                let first = slot % PLACES * BITS * if self.form == Form::Codes { 2 } else { 1 };
                let loaded = bytes.is_none() && (self.form != Form::Numbers || starts.len() > 1);
                let weight = loaded.then(|| w.take());
                match (&values, weight) {
                    (Some(values), Some(weight)) => {
                        let code = bits(w, index, first + BITS);
                        values.pick(w, weight, code);
                    }
                    (None, Some(weight)) => w.set(weight, stored),
                    (_, None) => {}
                }
                let place = bits(w, index, first);
                let element = w.take();
                for (row, ways) in rows.iter().zip(&sums) {
                    row.pick(w, element, place);
                    w.fma(ways[slot % WAYS], element, weight.map_or(stored, Src::Reg));
                }
                [Some(element), weight, Some(index)].into_iter().flatten().for_each(|v| w.drop(v));
            }
            w.advance(stream, vector(self.group_vectors()));
            w.advance(windows, WORD * signed(self.form.windows()));
        });
        rows.into_iter().chain(values).for_each(|table| table.release(&mut w));
        bytes.into_iter().for_each(|bytes| bytes.release(&mut w));
        numbers.into_iter().for_each(|numbers| w.drop(numbers));
        // Back to the beginning of the slice.
        w.follow(stream, STREAM, STREAM.at(VECTORS), span);
        self.end(&mut w, (&sums, &starts), stream, lanes);
        w.finish()
    }

    /// Functions of complete sums, and their way to where they belong. The vectors of the slice begin at `head`.
    fn end(&self, w: &mut Writer, (sums, starts): (&[[V; WAYS]], &[[i64; 2]]), head: P, lanes: usize) {
        for [first, second] in sums {
            w.bin(Bin::Add, *first, *first, *second);
            w.drop(*second);
        }
        let sums: Vec<V> = sums.iter().map(|[first, _]| *first).collect();
        for &(function, other) in &self.steps {
            let source = |_| match other {
                Other::None => Src::Const(0.0),
                Other::Number(x) => Src::Const(x),
                Other::Vector(operand) => Src::Mem(head.at(vector(HEAD + operand))),
                Other::Codes(_) => unreachable!("numbers of rows stand beside them"),
            };
            function.apply(w, &sums, source);
        }
        let at = w.take();
        w.load(at, head.at(vector(1)));
        let behind = self.place(self.outputs - 1) + WORD;
        for (&sum, &[_, to]) in sums.iter().zip(starts) {
            w.scatter(Y.at(to), at, sum, lanes, (0, behind));
        }
    }
}

/// So many vectors, in bytes.
fn vector(count: usize) -> i64 {
    signed(count * VECTOR_BYTES)
}

/// A codebook in registers, and the weights of the slots that one vector of bytes is for.
struct Bytes {
    planes: Vec<V>,
    numbers: [V; BYTES],
}

impl Bytes {
    fn new(w: &mut Writer, codebook: P, form: Form) -> Bytes {
        let planes = w.take_all(form.codebook_vectors());
        planes.iter().enumerate().for_each(|(i, &v)| w.load(v, codebook.at(vector(i))));
        Bytes { planes, numbers: [(); BYTES].map(|()| w.take()) }
    }

    /// Looks up the weights of the next slots.
    fn load(&self, w: &mut Writer, from: Mem) {
        let (codes, spare) = (w.take(), [w.take(), w.take()]);
        w.load(codes, from);
        let (d, planes) = (self.numbers, self.planes.clone());
        w.push(Inst::LookupBytes(Box::new(LookupBytes { d, codes, planes, spare })));
        w.drop_all(&[codes, spare[0], spare[1]]);
    }

    fn release(self, w: &mut Writer) {
        w.drop_all(&[&self.planes[..], &self.numbers[..]].concat());
    }
}

/// Two vectors that numbers are picked out of: in memory, and in registers where there are enough of them.
struct Table {
    at: P,
    offset: i64,
    held: Option<[V; 2]>,
}

impl Table {
    fn new(w: &mut Writer, at: P, offset: i64, held: bool) -> Table {
        Table { at, offset, held: held.then(|| [w.take(), w.take()]) }
    }

    /// Fills the registers, if there are any.
    fn load(&self, w: &mut Writer) {
        if let Some(held) = self.held {
            self.fill(w, held);
        }
    }

    fn fill(&self, w: &mut Writer, [low, high]: [V; 2]) {
        w.load(low, self.at.at(self.offset));
        w.load(high, self.at.at(self.offset + vector(1)));
    }

    /// `d = table[index]`
    fn pick(&self, w: &mut Writer, d: V, index: V) {
        let table = self.held.unwrap_or_else(|| {
            let table = [w.take(), w.take()];
            self.fill(w, table);
            table
        });
        w.lookup(d, index, &table);
        if self.held.is_none() {
            w.drop_all(&table);
        }
    }

    fn release(self, w: &mut Writer) {
        self.held.into_iter().for_each(|held| w.drop_all(&held));
    }
}

#[cfg(test)]
mod tests;
