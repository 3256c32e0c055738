//! Single bits, lowest first, and numbers in exponential Golomb codes.

/// Writes bits into bytes.
#[derive(Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    pending: u64,
    count: u32,
}

impl BitWriter {
    /// Writes the low `bits` bits of a value, at most 32; the others are zero.
    pub(super) fn put(&mut self, value: u64, bits: u32) {
        self.pending |= value << self.count;
        self.count += bits;
        while self.count >= 8 {
            self.bytes.push(self.pending.to_le_bytes()[0]);
            self.pending >>= 8;
            self.count -= 8;
        }
    }

    /// Writes a number in the exponential Golomb code of this order: about `2·log2(x/2^order) + order`
    /// bits.
    pub(super) fn put_golomb(&mut self, x: u64, order: u32) {
        let shifted = u128::from(x) + (1 << order);
        let below = shifted.ilog2();
        for _ in order..below {
            self.put(0, 1);
        }
        self.put(1, 1);
        for bit in 0..below {
            self.put(u64::from(shifted >> bit & 1 == 1), 1);
        }
    }

    /// The bytes; the last one is filled with zeros.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.put(0, (8 - self.count) % 8);
        self.bytes
    }
}

/// The bits that [`BitWriter::put_golomb`] takes.
pub(super) fn golomb_bits(x: u64, order: u32) -> u32 {
    2 * (u128::from(x) + (1 << order)).ilog2() - order + 1
}

/// Reads what [`BitWriter`] wrote; `None` at the end of the bytes.
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> BitReader<'a> {
        BitReader { bytes, at: 0 }
    }

    fn bit(&mut self) -> Option<bool> {
        let bit = self.bytes.get(self.at / 8)? >> (self.at % 8) & 1 == 1;
        self.at += 1;
        Some(bit)
    }

    pub(super) fn get(&mut self, bits: u32) -> Option<u64> {
        let mut value = 0;
        for i in 0..bits {
            value |= u64::from(self.bit()?) << i;
        }
        Some(value)
    }

    /// A number of at most 64 bits.
    pub(super) fn get_golomb(&mut self, order: u32) -> Option<u64> {
        let mut below = order;
        while !self.bit()? {
            below += 1;
            if below > 64 {
                return None;
            }
        }
        let mut shifted = 1u128 << below;
        for i in 0..below {
            shifted |= u128::from(self.bit()?) << i;
        }
        u64::try_from(shifted - (1 << order)).ok()
    }

    /// Bits not read yet.
    pub(super) fn left(&self) -> usize {
        8 * self.bytes.len() - self.at
    }

    /// Bytes read from, the last one perhaps in part.
    pub(super) fn bytes_read(&self) -> usize {
        self.at.div_ceil(8)
    }
}

/// Writes numbers in the Golomb code of the order that makes them shortest: the first after which the
/// next is no better.
pub(super) fn put_list(writer: &mut BitWriter, list: &[u64]) {
    let bits = |order: u32| list.iter().map(|&x| u64::from(golomb_bits(x, order))).sum::<u64>();
    let mut order = 0;
    let mut least = bits(0);
    while order < 63 {
        let next = bits(order + 1);
        if next >= least {
            break;
        }
        (order, least) = (order + 1, next);
    }
    writer.put(order.into(), 6);
    list.iter().for_each(|&x| writer.put_golomb(x, order));
}

/// Reads `len` numbers that [`put_list`] wrote.
pub(super) fn get_list(reader: &mut BitReader<'_>, len: usize) -> Option<Vec<u64>> {
    let order = u32::try_from(reader.get(6)?).ok()?;
    // A number takes a bit at least: no allocation goes beyond the file.
    if len > reader.left() {
        return None;
    }
    (0..len).map(|_| reader.get_golomb(order)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        let list: Vec<u64> = (0..64).flat_map(|i| [0, 1, 7, (1 << i) - 1, 1 << i, u64::MAX >> i]).collect();
        for order in [0, 1, 5, 31, 63] {
            let mut writer = BitWriter::default();
            list.iter().for_each(|&x| writer.put_golomb(x, order));
            let bits: u32 = list.iter().map(|&x| golomb_bits(x, order)).sum();
            let bytes = writer.finish();
            assert_eq!(bytes.len(), bits.div_ceil(8) as usize);
            let mut reader = BitReader::new(&bytes);
            assert!(list.iter().all(|&x| reader.get_golomb(order) == Some(x)), "order {order}");
            assert_eq!(reader.bytes_read(), bytes.len());
        }
        let mut writer = BitWriter::default();
        put_list(&mut writer, &list);
        let bytes = writer.finish();
        assert_eq!(get_list(&mut BitReader::new(&bytes), list.len()), Some(list));
    }

    #[test]
    fn the_end_is_noticed() {
        assert_eq!(BitReader::new(&[]).get(1), None);
        assert_eq!(BitReader::new(&[0; 32]).get_golomb(0), None);
        assert_eq!(BitReader::new(&[0x80]).get_golomb(0), None);
        assert_eq!(get_list(&mut BitReader::new(&[0; 4]), usize::MAX), None);
    }
}
