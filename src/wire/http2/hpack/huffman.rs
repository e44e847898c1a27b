//! The Huffman code of strings (RFC 7541 5.2 and appendix B), which is canonical: the lengths of its codes say all.

use super::Broken;

/// How many bits the code of each byte has, and last that of the end of a string (EOS). The codes follow from that: shorter
/// ones come first, and those of one length in the order of their bytes.
#[rustfmt::skip]
const BITS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// The longest code.
const LONGEST: usize = 30;
/// The symbol that ends strings. It may not occur (RFC 7541 5.2).
const EOS: u16 = 256;
/// Codes of so many bits at most are found with one look: those of nearly all that strings consist of.
const SHORT: usize = 10;

/// The first code of each length, aligned to the left of 32 bits, and how many symbols have shorter ones.
const FIRST: [(u32, u16); LONGEST + 2] = {
    let mut first = [(0u32, 0u16); LONGEST + 2];
    let mut length = 1;
    while length <= LONGEST {
        let (mut code, mut symbols) = first[length];
        let mut symbol = 0;
        while symbol < BITS.len() {
            if BITS[symbol] as usize == length {
                // Behind EOS, the last one, there is none.
                code = code.wrapping_add(1 << (32 - length));
                symbols += 1;
            }
            symbol += 1;
        }
        first[length + 1] = (code, symbols);
        length += 1;
    }
    first
};

/// The symbols in the order of their codes.
const SYMBOLS: [u16; 257] = {
    let (mut symbols, mut at, mut length) = ([0; 257], 0, 1);
    while length <= LONGEST {
        let mut symbol = 0;
        while symbol < BITS.len() {
            if BITS[symbol] as usize == length {
                symbols[at] = symbol as u16;
                at += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    symbols
};

/// For each beginning of bits the byte that they mean and the length of its code; 0 for one that is longer than they are.
static BY_BITS: [(u8, u8); 1 << SHORT] = {
    let mut table = [(0, 0); 1 << SHORT];
    let mut bits = 0;
    while bits < table.len() {
        let (symbol, length) = find((bits << (32 - SHORT)) as u32);
        if length <= SHORT {
            table[bits] = (symbol as u8, length as u8);
        }
        bits += 1;
    }
    table
};

/// The symbol that these bits begin with, and the length of its code.
const fn find(bits: u32) -> (u16, usize) {
    let mut length = 1;
    while length < LONGEST && (bits >= FIRST[length + 1].0) {
        length += 1;
    }
    let (code, symbols) = FIRST[length];
    let place = (bits - code) >> (32 - length);
    (SYMBOLS[symbols as usize + place as usize], length)
}

/// Appends what a string means to `out`: at most eight fifths of its length.
///
/// # Errors
/// [`Broken`] for padding that is none, and for EOS.
pub(super) fn decode(string: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
    let mut end = out.len();
    out.resize(end + string.len() * 8 / 5 + 1, 0);
    let mut bits = Bits { rest: string, next: 0, count: 0 }.filled();
    loop {
        let (mut byte, mut length) = BY_BITS[(bits.next >> (64 - SHORT)) as usize];
        if length == 0 {
            bits = bits.filled();
            (byte, length) = long(bits.next)?;
        }
        if u32::from(length) > bits.count {
            break;
        }
        out[end] = byte;
        end += 1;
        bits = Bits { next: bits.next << length, count: bits.count - u32::from(length), ..bits };
        if bits.count < SHORT as u32 {
            bits = bits.filled();
        }
    }
    out.truncate(end);
    if bits.are_padding() { Ok(()) } else { Err(Broken) }
}

/// The byte of a code that is not short, and its length.
fn long(bits: u64) -> Result<(u8, u8), Broken> {
    match find((bits >> 32) as u32) {
        (EOS, _) => Err(Broken),
        (symbol, length) => Ok((symbol as u8, length as u8)),
    }
}

/// The bits of a string. It is passed on as a value, so that it stays in registers.
#[derive(Clone, Copy)]
struct Bits<'a> {
    rest: &'a [u8],
    /// The next ones, from the left, and how many there are; zeros behind them.
    next: u64,
    count: u32,
}

impl Bits<'_> {
    /// The same, but more than the longest code has, as long as the string has as many.
    #[inline]
    fn filled(mut self) -> Self {
        if self.count > 32 {
            return self;
        }
        if let Some((word, rest)) = self.rest.split_first_chunk() {
            self.next |= u64::from(u32::from_be_bytes(*word)) << (32 - self.count);
            (self.rest, self.count) = (rest, self.count + 32);
            return self;
        }
        while let Some((byte, rest)) = self.rest.split_first() {
            self.next |= u64::from(*byte) << (56 - self.count);
            (self.rest, self.count) = (rest, self.count + 8);
        }
        self
    }

    /// Whether they are the beginning of EOS and no more than a byte may need: ones, and fewer than eight.
    fn are_padding(self) -> bool {
        self.count < 8 && self.next.leading_ones() == self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(string: &[u8]) -> Result<Vec<u8>, Broken> {
        let mut out = Vec::new();
        decode(string, &mut out).map(|()| out)
    }

    /// The code of a symbol and its bits.
    fn code(symbol: u16) -> (u64, u8) {
        let place = SYMBOLS.iter().position(|other| *other == symbol).unwrap();
        let length = usize::from(BITS[usize::from(symbol)]);
        let (first, shorter) = FIRST[length];
        let code = u64::from(first >> (32 - length)) + (place - usize::from(shorter)) as u64;
        (code, length as u8)
    }

    #[test]
    fn codes_are_those_of_the_standard() {
        for (symbol, expected) in [
            (b'0', (0x0, 5)),
            (b'a', (0x3, 5)),
            (b't', (0x9, 5)),
            (b' ', (0x14, 6)),
            (b':', (0x5c, 7)),
            (b'&', (0xf8, 8)),
            (b'!', (0x3f8, 10)),
            (b'~', (0x1ffd, 13)),
            (0, (0x1ff8, 13)),
            (b'\\', (0x7fff0, 19)),
            (128, (0xf_ffe6, 20)),
            (255, (0x3ff_ffee, 26)),
            (10, (0x3fff_fffc, 30)),
            (22, (0x3fff_fffe, 30)),
        ] {
            assert_eq!(code(u16::from(symbol)), expected, "{symbol}");
        }
        assert_eq!(code(EOS), (0x3fff_ffff, 30));
    }

    #[test]
    fn every_byte_comes_back() {
        for symbol in 0..=255 {
            let (code, bits) = code(u16::from(symbol));
            // Twice, and padding behind it.
            let (all, length) = (code << bits | code, u32::from(bits) * 2);
            let padding = length.next_multiple_of(8) - length;
            let all = all << padding | ((1 << padding) - 1);
            let bytes = all.to_be_bytes();
            let string = &bytes[8 - (length + padding) as usize / 8..];
            assert_eq!(decoded(string), Ok(vec![symbol; 2]), "{symbol}");
        }
    }

    #[test]
    fn strings_end_with_padding_and_nothing_else() {
        assert_eq!(decoded(b""), Ok(vec![]));
        // "0" is 00000.
        assert_eq!(decoded(&[0b0000_0111]), Ok(b"0".to_vec()));
        assert_eq!(decoded(&[0b0000_0000]), Err(Broken), "zeros are no padding");
        assert_eq!(decoded(&[0b0000_0111, 0xff]), Err(Broken), "a byte of padding");
        assert_eq!(decoded(&[0xff]), Err(Broken));
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xff]), Err(Broken), "EOS");
    }
}
