//! What a coder must know of a stream before its first symbol: which symbols occur, and a small number for
//! each, its code length or the logarithm of its frequency.
//!
//! Symbols that are neighbours (entries of an ascending codebook, distances) are often about as
//! frequent, so the numbers are kept as differences.

use super::super::bits::{BitReader, BitWriter, get_list, put_list};

/// A number for each symbol that occurs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Profile {
    /// The symbols that occur, ascending.
    pub(super) symbols: Vec<u16>,
    /// The number of each.
    pub(super) levels: Vec<u16>,
}

impl Profile {
    /// The bytes of a profile over an alphabet of `alphabet` symbols.
    pub(super) fn write(&self, alphabet: usize) -> Vec<u8> {
        let mut writer = BitWriter::default();
        let full = self.symbols.len() == alphabet;
        writer.put(full.into(), 1);
        if !full {
            self.runs(alphabet).iter().for_each(|&run| writer.put_golomb(run, 2));
        }
        let mut before = 0;
        let zigzag = |&level: &u16| {
            let difference = i64::from(level) - before;
            before = level.into();
            if difference < 0 { (-2 * difference - 1) as u64 } else { (2 * difference) as u64 }
        };
        put_list(&mut writer, &self.levels.iter().map(zigzag).collect::<Vec<_>>());
        writer.finish()
    }

    /// Lengths of runs of symbols that do not occur and do, by turns.
    fn runs(&self, alphabet: usize) -> Vec<u64> {
        let mut runs = vec![0u64];
        let mut symbols = self.symbols.iter().map(|&s| usize::from(s)).peekable();
        for symbol in 0..alphabet {
            let occurs = symbols.next_if_eq(&symbol).is_some();
            if occurs == (runs.len() % 2 == 1) {
                runs.push(0);
            }
            *runs.last_mut().expect("there is a run from the start") += 1;
        }
        runs
    }

    /// A profile, and the bytes it took; `None` if they are none.
    pub(super) fn read(bytes: &[u8], alphabet: usize) -> Option<(Profile, usize)> {
        let mut reader = BitReader::new(bytes);
        let mut symbols = Vec::new();
        if reader.get(1)? == 1 {
            symbols.extend((0..alphabet).map(u16::try_from).map_while(Result::ok));
        } else {
            let (mut next, mut occurs) = (0, false);
            while next < alphabet {
                let run = usize::try_from(reader.get_golomb(2)?).ok()?;
                let end = next.checked_add(run).filter(|&end| end <= alphabet)?;
                if occurs {
                    symbols.extend((next..end).map(u16::try_from).map_while(Result::ok));
                }
                (next, occurs) = (end, !occurs);
            }
        }
        let mut level = 0i64;
        let differences = get_list(&mut reader, symbols.len())?;
        let levels = differences.into_iter().map(|zigzag| {
            let half = i64::try_from(zigzag / 2).ok()?;
            let difference = if zigzag % 2 == 1 { -half - 1 } else { half };
            level = level.checked_add(difference)?;
            u16::try_from(level).ok()
        });
        let levels = levels.collect::<Option<Vec<u16>>>()?;
        Some((Profile { symbols, levels }, reader.bytes_read()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_come_back() {
        for (alphabet, symbols, levels) in [
            (2, vec![0, 1], vec![1, 1]),
            (256, vec![3], vec![9]),
            (256, (0..256).collect(), (0..256).map(|i| i * 7 % 30).collect()),
            (4096, vec![0, 1, 2, 77, 78, 4095], vec![65535, 0, 3, 3, 3, 65535]),
        ] {
            let profile = Profile { symbols, levels };
            let bytes = profile.write(alphabet);
            assert_eq!(Profile::read(&bytes, alphabet), Some((profile, bytes.len())));
            for end in 0..bytes.len() {
                assert_eq!(Profile::read(&bytes[..end], alphabet), None);
            }
        }
    }
}
