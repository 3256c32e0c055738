//! The slots of a sparse matrix: which weight is multiplied when, and in which lane.

use optc_ir::ExecError;

use super::{BITS, ENTRY_WORDS, Form, PLACES, SLOTS, Spmv, WINDOW, WORD};
use crate::memory::Memory;
use crate::tile::bytes::{BYTES, MAX_BYTES, place_of_byte, push_bytes, write_planes};
use crate::tile::spmm::Matrix;
use crate::tile::{LANES, VECTOR_BYTES, signed};

/// What each lane has in each slot of a window: the place of an element, and its weight.
type Slots = [[(u32, f32); LANES]; SLOTS];

/// A slot in which no lane has a weight.
const EMPTY: [(u32, f32); LANES] = [(0, 0.0); LANES];

/// Values that weights share.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Codebook {
    /// In order of their bits; the first is zero, for lanes without a weight.
    values: Vec<f32>,
}

impl Codebook {
    /// Of weights that are few enough values.
    pub(crate) fn of(weights: impl Iterator<Item = f32>) -> Option<Codebook> {
        let mut bits = vec![0];
        for weight in weights.filter(|weight| *weight != 0.0) {
            if let Err(place) = bits.binary_search(&weight.to_bits()) {
                if bits.len() == MAX_BYTES {
                    return None;
                }
                bits.insert(place, weight.to_bits());
            }
        }
        Some(Codebook { values: bits.into_iter().map(f32::from_bits).collect() })
    }

    /// Values, zero among them.
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    fn code(&self, weight: f32) -> u32 {
        let place = self.values.binary_search_by_key(&weight.to_bits(), |value| value.to_bits());
        u32::try_from(place.expect("the codebook is of these weights")).expect("few values")
    }
}

/// Groups of slots that the slices of a matrix take, of rows of so many elements.
pub(crate) fn groups(matrix: &Matrix, depth: usize, form: Form) -> usize {
    slices(matrix).iter().map(|slice| groups_of(matrix, slice, depth, form)).sum()
}

fn groups_of(matrix: &Matrix, slice: &[usize], depth: usize, form: Form) -> usize {
    let mut windows = 0_usize;
    each_window(matrix, slice, depth, |_, _| windows += 1);
    windows.div_ceil(form.windows())
}

/// The outputs of each slice, those with many weights first.
fn slices(matrix: &Matrix) -> Vec<Vec<usize>> {
    let mut outputs: Vec<usize> = (0..matrix.rows()).collect();
    outputs.sort_by_key(|&o| std::cmp::Reverse(matrix.row(o).len()));
    outputs.chunks(LANES).map(<[usize]>::to_vec).collect()
}

/// Slices in an order in which equal shares of them are about equal work. The last one stays where it is.
pub(super) fn dealt(slices: Vec<Vec<usize>>, work: impl Fn(&[usize]) -> usize, threads: usize) -> Vec<Vec<usize>> {
    let count = slices.len();
    // As the executor divides them.
    let room = |thread: usize| count * (thread + 1) / threads - count * thread / threads;
    let mut shares: Vec<(usize, Vec<Vec<usize>>)> = vec![(0, Vec::new()); threads];
    let mut slices = slices.into_iter();
    let last = slices.next_back();
    for slice in slices {
        let open = |&thread: &usize| shares[thread].1.len() + usize::from(thread + 1 == threads) < room(thread);
        let Some(thread) = (0..threads).filter(open).min_by_key(|&thread| shares[thread].0) else { break };
        shares[thread].0 += work(&slice);
        shares[thread].1.push(slice);
    }
    shares.into_iter().flat_map(|(_, slices)| slices).chain(last).collect()
}

/// The windows of a slice: where each begins, and its slots.
fn each_window(matrix: &Matrix, slice: &[usize], depth: usize, mut window: impl FnMut(usize, &Slots)) {
    let mut rest: Vec<&[(u32, f32)]> = slice.iter().map(|&o| matrix.row(o)).collect();
    let end = u32::try_from(depth.saturating_sub(WINDOW)).expect("rows are short");
    let width = u32::try_from(WINDOW).expect("a window is short");
    while let Some(first) = rest.iter().filter_map(|weights| weights.first()).map(|(k, _)| *k).min() {
        // No window ends behind the row that is longer than one.
        let first = first.min(end);
        let mut slots = [EMPTY; SLOTS];
        for (lane, weights) in rest.iter_mut().enumerate() {
            for slot in &mut slots {
                let Some((&(k, weight), others)) = weights.split_first() else { break };
                if k >= first + width {
                    break;
                }
                slot[lane] = (k - first, weight);
                *weights = others;
            }
        }
        window(first as usize, &slots);
    }
}

impl Spmv {
    /// Lays the stream out. `bias` is that of an output, `operand` the number of an operand and an output.
    ///
    /// # Errors
    /// If the machine has no room for it.
    pub(crate) fn pack(
        &self,
        matrix: &Matrix,
        bias: impl Fn(usize) -> f32,
        operand: impl Fn(usize, usize) -> f32,
    ) -> Result<Memory, ExecError> {
        let integer = |n: i64| f32::from_bits(i32::try_from(n).expect("a stream is below 2 GiB").cast_unsigned());
        let weights = || (0..matrix.rows()).flat_map(|o| matrix.row(o)).map(|(_, weight)| *weight);
        let codebook = Codebook::of(weights()).filter(|_| self.form != Form::Numbers);
        let work = |slice: &[usize]| slice.iter().map(|&o| matrix.row(o).len()).sum();
        let mut windows: Vec<f32> = Vec::with_capacity(self.groups * self.form.windows());
        let mut entries = Vec::new();
        // Behind the stream is room for what a program may think it reads, wherever its entry is.
        let room = self.words() + self.slices() * ENTRY_WORDS;
        Memory::written(room, |stream| {
            let start = stream.len();
            stream.resize(start + self.table_words(), 0.0);
            if let Some(codebook) = &codebook {
                match self.form {
                    Form::Bytes(_) => write_planes(stream, self.form.codebook_vectors(), &codebook.values),
                    _ => stream.extend_from_slice(&codebook.values),
                }
                stream.resize(start + self.table_words() + self.form.codebook_vectors() * LANES, 0.0);
            }
            for slice in dealt(slices(matrix), work, self.threads) {
                let at = stream.len() - start;
                let outputs = || slice.iter().copied();
                let mut head = |numbers: &mut dyn Iterator<Item = f32>| {
                    let end = stream.len() + LANES;
                    stream.extend(numbers);
                    stream.resize(end, 0.0);
                };
                head(&mut outputs().map(&bias));
                head(&mut outputs().map(|o| integer(self.place(o))));
                (0..self.operands).for_each(|i| head(&mut outputs().map(|o| operand(i, o))));
                let groups_before = windows.len() / self.form.windows();
                let mut group: Vec<Slots> = Vec::new();
                each_window(matrix, &slice, self.depth, |first, slots| {
                    windows.push(integer(signed(first) * WORD));
                    group.push(*slots);
                    if group.len() == self.form.windows() {
                        self.write(stream, &group, codebook.as_ref());
                        group.clear();
                    }
                });
                if !group.is_empty() {
                    windows.resize(windows.len().next_multiple_of(self.form.windows()), 0.0);
                    group.resize(self.form.windows(), [EMPTY; SLOTS]);
                    self.write(stream, &group, codebook.as_ref());
                }
                let groups = windows.len() / self.form.windows() - groups_before;
                entries.push((at, groups_before * self.form.windows(), groups));
            }
            let first_window = stream.len() - start;
            stream.extend_from_slice(&windows);
            for (slice, (vectors, window, groups)) in entries.into_iter().enumerate() {
                let here = slice * ENTRY_WORDS;
                let place = |word: usize| integer(signed(word - here) * WORD);
                let entry =
                    [place(vectors), place(first_window + window), integer(signed(groups)), place(self.table_words())];
                stream[start + here..][..ENTRY_WORDS].copy_from_slice(&entry);
            }
        })
    }

    /// Appends a group: the places of all slots, with codes of as many bits if weights are such; then weights that
    /// are bytes, or numbers.
    fn write(&self, stream: &mut Vec<f32>, group: &[Slots], codebook: Option<&Codebook>) {
        let slots: Vec<&[(u32, f32); LANES]> = group.iter().flatten().collect();
        let code = |weight| codebook.map_or(0, |codebook| codebook.code(weight));
        for slots in slots.chunks(PLACES) {
            stream.extend((0..LANES).map(|lane| {
                let mut numbers = 0;
                for (i, slot) in slots.iter().enumerate() {
                    let (place, weight) = slot[lane];
                    numbers |= match self.form {
                        Form::Codes => (place | code(weight) << BITS) << (2 * BITS * i),
                        Form::Numbers | Form::Bytes(_) => place << (BITS * i),
                    };
                }
                f32::from_bits(numbers)
            }));
        }
        match self.form {
            Form::Numbers => stream.extend(slots.iter().flat_map(|slot| slot.iter()).map(|(_, weight)| *weight)),
            Form::Codes => {}
            Form::Bytes(_) => {
                for slots in slots.chunks(BYTES) {
                    let mut bytes = [0; VECTOR_BYTES];
                    for (i, slot) in slots.iter().enumerate() {
                        for (lane, (_, weight)) in slot.iter().enumerate() {
                            bytes[place_of_byte(i, lane)] = code(*weight).to_le_bytes()[0];
                        }
                    }
                    push_bytes(stream, &bytes);
                }
            }
        }
    }
}
