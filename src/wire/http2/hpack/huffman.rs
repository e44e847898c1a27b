//! The Huffman code of strings (RFC 7541 5.2 and appendix B), read four bits at a time.

use super::Broken;

/// How many bits the code of each byte has, and last that of the end of a string (EOS). The code is canonical, so its bits
/// follow from that: shorter ones come first, and those of one length in the order of their bytes.
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
const LONGEST: u8 = 30;
/// In [`TREE`], what is as large as this is no branch but a symbol, by so much too large.
const SYMBOL: u16 = 256;
/// The symbol that ends strings. It may not occur (RFC 7541 5.2).
const EOS: u16 = 256;
/// A string is padded to a byte with the beginning of EOS: ones, and fewer than eight.
const MAX_PADDING: u8 = 7;

/// The branches of the code's tree: for each, where a zero and a one lead. The first one is the root.
const TREE: [[u16; 2]; 256] = {
    let (mut tree, mut branches) = ([[0; 2]; 256], 1);
    let (mut code, mut length) = (0u32, 1);
    while length <= LONGEST {
        code <<= 1;
        let mut symbol = 0;
        while symbol < BITS.len() {
            if BITS[symbol] == length {
                let (mut branch, mut bit) = (0, length - 1);
                while bit > 0 {
                    let side = (code >> bit & 1) as usize;
                    if tree[branch][side] == 0 {
                        tree[branch][side] = branches;
                        branches += 1;
                    }
                    branch = tree[branch][side] as usize;
                    bit -= 1;
                }
                tree[branch][(code & 1) as usize] = SYMBOL + symbol as u16;
                code += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    tree
};

/// What four bits mean at a branch. No code is shorter than five, so at most one symbol ends in them.
#[derive(Clone, Copy)]
struct Step {
    /// The branch that they lead to.
    next: u8,
    /// The byte that ends in them, if one does.
    byte: u8,
    emits: bool,
    is_broken: bool,
}

static STEPS: [[Step; 16]; 256] = {
    let mut steps = [[Step { next: 0, byte: 0, emits: false, is_broken: false }; 16]; 256];
    let mut branch = 0;
    while branch < steps.len() {
        let mut bits = 0;
        while bits < 16 {
            steps[branch][bits] = step(branch, bits);
            bits += 1;
        }
        branch += 1;
    }
    steps
};

const fn step(branch: usize, bits: usize) -> Step {
    let mut step = Step { next: branch as u8, byte: 0, emits: false, is_broken: false };
    let mut bit = 4;
    while bit > 0 {
        bit -= 1;
        let to = TREE[step.next as usize][bits >> bit & 1];
        if to < SYMBOL {
            step.next = to as u8;
        } else {
            step.is_broken |= to - SYMBOL == EOS;
            step.next = 0;
            step.byte = (to - SYMBOL) as u8;
            step.emits = true;
        }
    }
    step
}

/// At which branches a string may end: at the root, and where nothing but padding led.
const ENDS: [bool; 256] = {
    let (mut ends, mut branch, mut ones) = ([false; 256], 0, 0);
    while ones <= MAX_PADDING {
        ends[branch] = true;
        branch = TREE[branch][1] as usize;
        ones += 1;
    }
    ends
};

/// Appends what a string means to `out`: at most eight fifths of its length.
///
/// # Errors
/// [`Broken`] for padding that is none, and for EOS.
pub(super) fn decode(string: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
    out.reserve(string.len() * 8 / 5 + 1);
    let (mut branch, mut is_broken) = (0, false);
    for byte in string {
        for bits in [byte >> 4, byte & 0xf] {
            let step = STEPS[usize::from(branch)][usize::from(bits)];
            if step.emits {
                out.push(step.byte);
            }
            is_broken |= step.is_broken;
            branch = step.next;
        }
    }
    if is_broken || !ENDS[usize::from(branch)] { Err(Broken) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(string: &[u8]) -> Result<Vec<u8>, Broken> {
        let mut out = Vec::new();
        decode(string, &mut out).map(|()| out)
    }

    /// The code of a symbol and its bits, as the tree has it.
    fn code(symbol: u16) -> (u64, u8) {
        let mut open = vec![(0, 0, 0)];
        while let Some((branch, code, bits)) = open.pop() {
            for side in 0..2 {
                match TREE[branch][side] {
                    to if to == SYMBOL + symbol => return (code << 1 | side as u64, bits + 1),
                    to if to < SYMBOL => open.push((usize::from(to), code << 1 | side as u64, bits + 1)),
                    _ => {}
                }
            }
        }
        panic!("{symbol} has no code");
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
