//! The clustered encoding: a table of the distinct elements, and one index an element.
//!
//! Canonical: the table ascends by the total order of bits, every entry is used, and indices are as
//! narrow as the table allows. So equal elements have equal encodings.

use super::elements::{Element, map_elements};
use super::packed::{Packed, width};
use super::{Encoding, malformed};
use crate::error::ConstantError;
use crate::tensor::Data;
use crate::with_elements;

/// The distinct elements, ascending; `None` if there are more than `limit`.
///
/// Elements not in the set wait in a piece that grows with the set, so that merging stays linear in the
/// number of elements whatever their order.
pub(super) fn distinct<T: Element>(elements: impl Iterator<Item = T>, limit: usize) -> Option<Vec<T>> {
    // Looking up beats sorting only while the set is small.
    const LOOK_UP: usize = 1 << 10;
    let mut set: Vec<T> = Vec::new();
    let mut piece: Vec<T> = Vec::new();
    let merge = |set: &mut Vec<T>, piece: &mut Vec<T>| {
        piece.sort_unstable_by_key(|x| x.key());
        piece.dedup_by_key(|x| x.key());
        set.append(piece);
        // Stable sorting merges the two ascending runs in linear time.
        set.sort_by_key(|x| x.key());
        set.dedup_by_key(|x| x.key());
        set.len() <= limit
    };
    for x in elements {
        if set.len() <= LOOK_UP && find(&set, x).is_some() {
            continue;
        }
        piece.push(x);
        if piece.len() >= set.len().max(256) && !merge(&mut set, &mut piece) {
            return None;
        }
    }
    merge(&mut set, &mut piece).then_some(set)
}

const MAX_ENTRIES: usize = 1 << 31;

fn find<T: Element>(table: &[T], x: T) -> Option<usize> {
    table.binary_search_by_key(&x.key(), |entry| entry.key()).ok()
}

pub(super) fn encode(data: &Data) -> Result<Encoding, ConstantError> {
    let (codebook, codes);
    codebook = map_elements!(data, v => {
        let table = distinct(v.iter().copied(), MAX_ENTRIES).ok_or_else(|| ConstantError::Inexact("clustered".to_owned()))?;
        let code = |&x| find(&table, x).and_then(|i| u32::try_from(i).ok()).expect("the table holds every element");
        codes = Packed::from_codes(width(table.len().saturating_sub(1)), v.iter().map(code));
        table
    });
    Ok(Encoding::Clustered { codebook, codes })
}

pub(super) fn decode(codebook: &Data, codes: &Packed) -> Data {
    map_elements!(codebook, table => look_up(table, codes))
}

/// The entry of each code; codes are within the table.
fn look_up<T: Element>(table: &[T], codes: &Packed) -> Vec<T> {
    if codes.bits() > 8 {
        return codes.iter().map(|code| table[code as usize]).collect();
    }
    // A full table spares the check of every index.
    let mut full = [T::default(); 256];
    full[..table.len()].copy_from_slice(table);
    let mut out = Vec::with_capacity(codes.len());
    codes.for_each_piece(|piece| out.extend(piece.iter().map(|&code| full[usize::from(code)])));
    out
}

/// How often each entry of a table of `len` is used; codes beyond it are not counted.
pub(super) fn histogram(len: usize, codes: &Packed) -> Vec<usize> {
    let mut counts = vec![0; len.max(256)];
    if codes.bits() <= 8 {
        codes.for_each_piece(|piece| piece.iter().for_each(|&code| counts[usize::from(code)] += 1));
    } else {
        for code in codes.iter() {
            if let Some(count) = counts.get_mut(code as usize) {
                *count += 1;
            }
        }
    }
    counts.truncate(len);
    counts
}

/// Checks that the parts are what [`encode`] makes.
pub(super) fn validate(codebook: &Data, codes: &Packed) -> Result<(), ConstantError> {
    let k = codebook.len();
    if !with_elements!(codebook, table => table.is_sorted_by(|a, b| a.key().cmp(&b.key()).is_lt())) {
        return Err(malformed("the codebook does not ascend"));
    }
    // Every entry is used, so the counts below are no longer than the codes.
    if k > codes.len() {
        return Err(malformed(format!("{k} codebook entries for {} codes", codes.len())));
    }
    if codes.bits() != width(k.saturating_sub(1)) {
        return Err(malformed(format!("codes of {} bits for {k} codebook entries", codes.bits())));
    }
    let counts = histogram(k, codes);
    if counts.iter().sum::<usize>() != codes.len() {
        return Err(malformed(format!("a code is beyond the {k} codebook entries")));
    }
    match counts.iter().position(|&count| count == 0) {
        Some(unused) => Err(malformed(format!("codebook entry {unused} is not used"))),
        None => Ok(()),
    }
}
