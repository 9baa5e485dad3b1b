//! The table of a request's texts, and labels made of references to it.

use std::fmt;

use model::METRIC_NAME;
use storage_api::{KeyMaker, SeriesKey};

use crate::protobuf::{Malformed, Reader};

/// So many symbols are decoded between two looks at the memory budget.
const SYMBOLS_PER_CHARGE: usize = 4096;

/// Series with more labels are not told by keys.
const LABELS_MAX: usize = 256;

/// Makes the keys of series from those of their symbols.
///
/// The key of a list of symbols is the sum of their keys, each multiplied by a secret odd number of its place, modulo
/// 2^128. Keys of symbols are hashes under a secret. Two lists that differ have the same sum only if a combination of such
/// numbers with differences of such hashes is zero, which is as good as never, about 2^-120, whichever lists are sent: the
/// numbers of two places have nothing to do with each other, so that no pattern of symbols makes terms cancel out, as one
/// does for a polynomial, whose places are powers of one number. It costs a multiplication for each symbol, much less than
/// a hash of all their keys.
#[derive(Debug)]
pub(crate) struct SymbolKeys {
    maker: KeyMaker,
    factors: Vec<u128>,
}

impl Default for SymbolKeys {
    /// Returns what makes keys with a new secret.
    fn default() -> Self {
        let (maker, places) = (KeyMaker::default(), KeyMaker::default());
        let factors = (0..2 * LABELS_MAX).map(|place| places.key(&place.to_le_bytes()).0 | 1).collect();
        Self { maker, factors }
    }
}

/// The request's texts.
#[derive(Debug)]
pub(crate) struct Symbols<'a> {
    maker: &'a SymbolKeys,
    /// Each tested once for UTF-8; `None` where it is none.
    texts: Vec<Option<&'a str>>,
    /// What stands for each in the keys of series, which must not depend on the order of the table.
    keys: Vec<SeriesKey>,
    /// The reference to `__name__`, the first one if there are more.
    name: Option<usize>,
}

/// What is wrong with references to symbols.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::receivers::write_request) enum BadRefs {
    Missing { reference: u64, len: usize },
    NotUtf8 { reference: u64 },
    Odd { len: u64 },
}

impl fmt::Display for BadRefs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { reference, len } => {
                write!(f, "refers to symbol {reference}, which is not there, of {len} symbols")
            }
            Self::NotUtf8 { reference } => write!(f, "refers to symbol {reference}, which is not valid UTF-8"),
            Self::Odd { len } => write!(f, "has a name without a value: there are {len} references to symbols"),
        }
    }
}

impl BadRefs {
    pub(in crate::receivers::write_request) fn reason(self) -> &'static str {
        match self {
            Self::Missing { .. } => "invalid_symbol",
            Self::NotUtf8 { .. } => "invalid_utf8",
            Self::Odd { .. } => "odd_label_references",
        }
    }
}

/// Collects the symbols of a request; `charge` is told of memory beyond the usual.
pub(crate) fn decode_symbols<'a, E: From<Malformed>>(
    body: &'a [u8],
    maker: &'a SymbolKeys,
    mut charge: impl FnMut(u64) -> Result<(), E>,
) -> Result<Symbols<'a>, E> {
    let mut symbols = Symbols { maker, texts: Vec::new(), keys: Vec::new(), name: None };
    let mut reader = Reader::new(body);
    while let Some((tag, field)) = reader.next()? {
        if tag != 4 {
            continue;
        }
        let len = symbols.texts.len();
        if len % SYMBOLS_PER_CHARGE == SYMBOLS_PER_CHARGE - 1 {
            // A text, a key, and later the metadata of a metric; a growing vector may hold twice what is in it.
            let bytes = size_of::<Option<&str>>() + size_of::<SeriesKey>() + size_of::<&[u8]>();
            charge((SYMBOLS_PER_CHARGE * 2 * bytes) as u64)?;
        }
        let bytes = field.bytes()?;
        if len == 0 && !bytes.is_empty() {
            return Err(Malformed::new("the first symbol is not the empty string").within(bytes).into());
        }
        if bytes == METRIC_NAME.as_bytes() && symbols.name.is_none() {
            symbols.name = Some(len);
        }
        symbols.texts.push(std::str::from_utf8(bytes).ok());
        symbols.keys.push(maker.maker.key(bytes));
    }
    Ok(symbols)
}

/// Returns where a symbol is: a reference has 32 bits, and what is over them is cut off, as protobuf does.
fn place(reference: u64) -> usize {
    (reference & u64::from(u32::MAX)) as usize
}

impl<'a> Symbols<'a> {
    pub(in crate::receivers::write_request) fn get(&self, reference: u64) -> Result<&'a str, BadRefs> {
        match self.texts.get(place(reference)) {
            Some(Some(text)) => Ok(text),
            Some(None) => Err(BadRefs::NotUtf8 { reference }),
            None => Err(BadRefs::Missing { reference, len: self.texts.len() }),
        }
    }

    /// Returns how many symbols there are.
    pub(in crate::receivers::write_request) fn len(&self) -> usize {
        self.texts.len()
    }

    /// Returns what a symbol at a place of a list adds to the list's key; `None` for one that is not there, or too far on.
    pub(in crate::receivers::write_request) fn term(&self, at: usize, reference: u64) -> Option<u128> {
        Some(self.keys.get(place(reference))?.0.wrapping_mul(*self.maker.factors.get(at)?))
    }

    /// Says whether a reference is the one to `__name__`.
    pub(in crate::receivers::write_request) fn is_name(&self, reference: u64) -> bool {
        self.name == Some(place(reference))
    }

    /// Starts to make labels.
    pub(in crate::receivers::write_request) fn pairs(&self) -> Pairs<'_, 'a> {
        Pairs { symbols: self, len: 0, name: "" }
    }
}

/// Makes labels of references, which are names and values in turn.
#[derive(Debug)]
pub(in crate::receivers::write_request) struct Pairs<'s, 'a> {
    symbols: &'s Symbols<'a>,
    len: u64,
    name: &'a str,
}

impl<'a> Pairs<'_, 'a> {
    /// Takes a reference; gives a label with each second one.
    pub(in crate::receivers::write_request) fn take(
        &mut self,
        reference: u64,
    ) -> Result<Option<(&'a str, &'a str)>, BadRefs> {
        self.len += 1;
        let text = self.symbols.get(reference)?;
        if self.len % 2 == 1 {
            self.name = text;
            Ok(None)
        } else {
            Ok(Some((self.name, text)))
        }
    }

    /// Tests that no name is left without a value.
    pub(in crate::receivers::write_request) fn finish(self) -> Result<(), BadRefs> {
        if self.len % 2 == 1 { Err(BadRefs::Odd { len: self.len }) } else { Ok(()) }
    }
}
