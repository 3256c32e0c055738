//! Asymmetric numeral systems (Duda 2013) with static frequencies, by the `constriction` library.
//!
//! The file keeps logarithms of frequencies, in steps as fine as the length of the stream deserves.
//! Decoding runs four chunks in turn: each waits for its own table look-ups only.

use constriction::backends::Cursor;
use constriction::stream::Decode;
use constriction::stream::model::{ContiguousCategoricalEntropyModel, ContiguousLookupDecoderModel};
use constriction::stream::stack::{AnsCoder, DefaultAnsCoder};

use super::Symbol;
use super::profile::Profile;

/// 2^(i/8) in units of 2^-20.
const EIGHTHS: [u64; 8] = [1_048_576, 1_143_480, 1_246_974, 1_359_835, 1_482_910, 1_617_125, 1_763_488, 1_923_097];

/// The highest logarithm of a frequency relative to the lowest one.
const MAX_OCTAVES: u16 = 40;

/// Steps an octave in which logarithms of frequencies are kept.
pub(super) const STEPS: [u16; 4] = [1, 2, 4, 8];

/// Logarithms of counts, none of them 0, relative to the lowest.
pub(super) fn levels(counts: &[u64], steps: u16) -> Vec<u16> {
    let log = |count: u64| (count as f64).log2() * f64::from(steps);
    let lowest = counts.iter().map(|&count| log(count)).fold(f64::INFINITY, f64::min);
    counts.iter().map(|&count| (log(count) - lowest).round() as u16).map(|l| l.min(MAX_OCTAVES * steps)).collect()
}

/// Frequencies that sum up to 2^`precision`, each at least 1; `None` if that can't be.
pub(super) fn frequencies(levels: &[u16], steps: u16, precision: u32) -> Option<Vec<u32>> {
    let total = 1u64 << precision;
    let weight = |&level: &u16| {
        let eighths = usize::from(level) * 8 / usize::from(steps);
        u128::from(EIGHTHS[eighths % 8]) << (eighths / 8)
    };
    if levels.len() < 2 || levels.len() as u64 > total / 2 || levels.iter().any(|&l| l > MAX_OCTAVES * steps) {
        return None;
    }
    let sum: u128 = levels.iter().map(weight).sum();
    let share = |level| ((weight(level) * u128::from(total) + sum / 2) / sum).max(1) as u64;
    let mut frequencies: Vec<u64> = levels.iter().map(share).collect();
    // Rounding and the minimum of 1 are made up for by the highest frequencies, where it costs least.
    let mut order: Vec<usize> = (0..frequencies.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(frequencies[i]));
    let mut sum: u64 = frequencies.iter().sum();
    if sum < total {
        frequencies[order[0]] += total - sum;
        sum = total;
    }
    while sum > total {
        for &i in &order {
            let less = (sum - total).min(frequencies[i].div_ceil(64)).min(frequencies[i] - 1);
            frequencies[i] -= less;
            sum -= less;
        }
    }
    frequencies.into_iter().map(|f| u32::try_from(f).ok()).collect()
}

/// The bits that symbols with these counts take when coded with these frequencies.
pub(super) fn cost(counts: &[u64], frequencies: &[u32], precision: u32) -> f64 {
    let bits = |(&count, &frequency): (&u64, &u32)| count as f64 * (f64::from(precision) - f64::from(frequency).log2());
    counts.iter().zip(frequencies).map(bits).sum()
}

/// Frequencies as the library takes them; 2^16 itself does not occur among two or more.
fn probabilities(frequencies: &[u32]) -> Option<Vec<u16>> {
    frequencies.iter().map(|&f| u16::try_from(f).ok()).collect()
}

/// Encodes chunks with frequencies of `PRECISION` bits.
pub(super) struct Encoder<const PRECISION: usize> {
    model: ContiguousCategoricalEntropyModel<u16, Vec<u16>, PRECISION>,
    /// Index into the profile by symbol.
    indices: Vec<u16>,
}

impl<const PRECISION: usize> Encoder<PRECISION> {
    pub(super) fn new(profile: &Profile, frequencies: &[u32]) -> Option<Encoder<PRECISION>> {
        let probabilities = probabilities(frequencies)?;
        let model =
            ContiguousCategoricalEntropyModel::from_nonzero_fixed_point_probabilities(probabilities, false).ok()?;
        let mut indices = vec![0; usize::from(*profile.symbols.last()?) + 1];
        for (i, &symbol) in profile.symbols.iter().enumerate() {
            indices[usize::from(symbol)] = u16::try_from(i).ok()?;
        }
        Some(Encoder { model, indices })
    }

    /// The bytes of symbols, which are all in the profile.
    pub(super) fn encode<T: Symbol>(&self, symbols: &[T]) -> Vec<u8> {
        let mut coder = DefaultAnsCoder::new();
        let indices = symbols.iter().map(|symbol| usize::from(self.indices[symbol.index()]));
        coder.encode_iid_symbols_reverse(indices, &self.model).expect("every index is in the model");
        let words = coder.into_compressed().unwrap_or_else(|never| match never {});
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        // The coder's last word is not zero, so its leading zero bytes can be told from its absence.
        while bytes.last() == Some(&0) {
            bytes.pop();
        }
        bytes
    }
}

/// Decodes chunks by looking frequencies of `PRECISION` bits up.
pub(super) struct Decoder<const PRECISION: usize> {
    model: ContiguousLookupDecoderModel<u16, Vec<u16>, Box<[u16]>, PRECISION>,
}

type Coder = AnsCoder<u32, u64, Cursor<u32, Vec<u32>>>;

impl<const PRECISION: usize> Decoder<PRECISION> {
    pub(super) fn new(frequencies: &[u32]) -> Option<Decoder<PRECISION>> {
        let probabilities = probabilities(frequencies)?;
        let model = ContiguousLookupDecoderModel::from_nonzero_fixed_point_probabilities(probabilities, false).ok()?;
        Some(Decoder { model })
    }

    /// Decodes consecutive chunks, at most four, into `out`, `chunk_len` symbols each but perhaps the
    /// last; `None` if a chunk does not hold exactly its symbols.
    pub(super) fn decode<T: Symbol>(&self, map: &[T], chunks: &[&[u8]], chunk_len: usize, out: &mut [T]) -> Option<()> {
        let mut coders = chunks.iter().map(|chunk| coder(chunk)).collect::<Option<Vec<_>>>()?;
        let mut parts: Vec<&mut [T]> = out.chunks_mut(chunk_len).collect();
        if coders.len() != parts.len() {
            return None;
        }
        let mut done = 0;
        if let ([a, b, c, d], [to_a, to_b, to_c, to_d]) = (coders.as_mut_slice(), parts.as_mut_slice()) {
            // Only the last one may be shorter.
            done = to_d.len();
            let four = to_a.iter_mut().zip(to_b.iter_mut()).zip(to_c.iter_mut()).zip(to_d.iter_mut());
            for (((to_a, to_b), to_c), to_d) in four {
                *to_a = self.next(a, map);
                *to_b = self.next(b, map);
                *to_c = self.next(c, map);
                *to_d = self.next(d, map);
            }
        }
        for (coder, part) in coders.iter_mut().zip(parts) {
            part[done..].iter_mut().for_each(|to| *to = self.next(coder, map));
        }
        coders.iter().all(|coder| coder.is_empty()).then_some(())
    }

    fn next<T: Symbol>(&self, coder: &mut Coder, map: &[T]) -> T {
        match coder.decode_symbol(self.model.as_view()) {
            Ok(index) => map[index],
            Err(never) => match never {},
        }
    }
}

fn coder(bytes: &[u8]) -> Option<Coder> {
    let words = bytes.chunks(4).map(|bytes| {
        let mut word = [0; 4];
        word[..bytes.len()].copy_from_slice(bytes);
        u32::from_le_bytes(word)
    });
    Coder::from_compressed(Cursor::new_at_write_end(words.collect())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_fill_the_scale_and_follow_the_counts() {
        let counts: Vec<u64> = (1..300u64).map(|i| i * i).collect();
        let entropy = {
            let n = counts.iter().sum::<u64>() as f64;
            counts.iter().map(|&c| c as f64 * (n / c as f64).log2()).sum::<f64>()
        };
        let mut before = f64::INFINITY;
        for steps in STEPS {
            let frequencies = frequencies(&levels(&counts, steps), steps, 16).expect("there are 299 symbols");
            assert_eq!(frequencies.iter().sum::<u32>(), 1 << 16);
            let cost = cost(&counts, &frequencies, 16);
            assert!(entropy <= cost && cost < before, "{steps} steps: {cost} of {entropy}");
            before = cost;
        }
        assert!(before < 1.001 * entropy);
    }

    #[test]
    fn absurd_levels_are_refused() {
        assert_eq!(frequencies(&[], 1, 12), None);
        assert_eq!(frequencies(&[0], 1, 12), None);
        assert_eq!(frequencies(&[0, 41], 1, 12), None);
        assert_eq!(frequencies(&[0; 4096], 1, 12), None);
        assert_eq!(frequencies(&[0, 40], 1, 12), Some(vec![1, 4095]));
    }
}
