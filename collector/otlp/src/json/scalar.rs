//! The scalars of protobuf's JSON form, each of which may also be `null`.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::value::base64_decode;

/// A list of messages; `null` is the empty one.
#[derive(Debug)]
pub(super) struct Many<T>(Vec<T>);

impl<T> Default for Many<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Many<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = Option::<Vec<Object<T>>>::deserialize(deserializer)?.unwrap_or_default();
        Ok(Self(entries.into_iter().map(|Object(entry)| entry).collect()))
    }
}

impl<T> Many<T> {
    /// Returns the entries.
    pub(super) fn into_vec(self) -> Vec<T> {
        self.0
    }

    /// Turns each entry into its protobuf type.
    pub(super) fn to<U: From<T>>(self) -> Vec<U> {
        self.0.into_iter().map(U::from).collect()
    }
}

/// A message, which is a JSON object; a derived reader would take an array for its fields in order as well.
#[derive(Debug)]
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Self)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

/// A list of numbers; `null` is the empty one.
#[derive(Debug)]
pub(super) struct Numbers<T>(Vec<T>);

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Numbers<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Option::<Vec<T>>::deserialize(deserializer)?.unwrap_or_default()))
    }
}

impl<T> Numbers<T> {
    /// Turns each entry by `turn`.
    pub(super) fn map<U>(self, turn: impl Fn(T) -> U) -> Vec<U> {
        self.0.into_iter().map(turn).collect()
    }
}

/// Text; `null` is the empty one.
#[derive(Debug, Default)]
pub(super) struct Text(pub(super) String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Option::<String>::deserialize(deserializer)?.unwrap_or_default()))
    }
}

/// A truth value; `null` is false.
#[derive(Debug, Default)]
pub(super) struct Truth(pub(super) bool);

impl<'de> Deserialize<'de> for Truth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Option::<bool>::deserialize(deserializer)?.unwrap_or_default()))
    }
}

/// An integer, as a number or as a string; `null` is 0.
#[derive(Debug, Default)]
pub(super) struct Int<T>(pub(super) T);

impl<'de, T: TryFrom<i128> + Default> Deserialize<'de> for Int<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IntVisitor(PhantomData))
    }
}

struct IntVisitor<T>(PhantomData<T>);

impl<'de, T: TryFrom<i128> + Default> Visitor<'de> for IntVisitor<T> {
    type Value = Int<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer, as a number or as a string")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        self.visit_i128(i128::from(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        self.visit_i128(i128::from(number))
    }

    fn visit_i128<E: Error>(self, number: i128) -> Result<Self::Value, E> {
        T::try_from(number).map(Int).map_err(|_| E::custom(format!("{number} is out of range")))
    }

    #[expect(clippy::cast_possible_truncation, reason = "whole and inside the range that is tested")]
    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        // 1e3 is an integer too.
        if number.fract() == 0.0 && number.abs() < 1e18 {
            return self.visit_i128(number as i128);
        }
        Err(E::custom(format!("{number} is no integer")))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        // The narrow number is the quick one, and nearly always enough.
        match text.parse::<i64>().map(i128::from).or_else(|_| text.parse::<i128>()) {
            Ok(number) => self.visit_i128(number),
            Err(_) => Err(E::custom(format!("{text:?} is no integer"))),
        }
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Int(T::default()))
    }
}

/// A double: a number, a string that holds one, or `"NaN"`, `"Infinity"`, `"-Infinity"`; `null` is 0.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Real(pub(super) f64);

impl<'de> Deserialize<'de> for Real {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // serde_json's own doubles may be off by the last bit; the standard library's are exact.
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        let fault = || D::Error::custom(format!("expected a number, got {}", raw.chars().take(40).collect::<String>()));
        if raw == "null" {
            return Ok(Self(0.0));
        }
        match raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')) {
            Some(text) => text.parse().map(Self).map_err(|_| fault()),
            None => raw.parse().ok().filter(|number: &f64| number.is_finite()).map(Self).ok_or_else(fault),
        }
    }
}

/// Bytes in hex, as OTLP writes ids.
#[derive(Debug, Default)]
pub(super) struct Hex(pub(super) Vec<u8>);

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Text::deserialize(deserializer)?.0;
        let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        });
        pairs.collect::<Option<_>>().map(Self).ok_or_else(|| D::Error::custom("an id that is not in hex"))
    }
}

/// Bytes in base64.
#[derive(Debug, Default)]
pub(super) struct Base64(pub(super) Vec<u8>);

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Text::deserialize(deserializer)?.0;
        base64_decode(&text).map(Self).ok_or_else(|| D::Error::custom("bytes that are not in base64"))
    }
}

/// An enum, as its number, or as its name, which some senders write though OTLP does not allow it.
#[derive(Debug)]
pub(super) struct Choice<E>(pub(super) i32, PhantomData<E>);

impl<E> Default for Choice<E> {
    fn default() -> Self {
        Self(0, PhantomData)
    }
}

/// Knows the names of an enum's values.
pub(super) trait Named {
    /// Returns the number of `name`.
    fn number(name: &str) -> Option<i32>;
}

impl<'de, E: Named> Deserialize<'de> for Choice<E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ChoiceVisitor::<E>(PhantomData)).map(|number| Self(number, PhantomData))
    }
}

struct ChoiceVisitor<E>(PhantomData<E>);

impl<'de, N: Named> Visitor<'de> for ChoiceVisitor<N> {
    type Value = i32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the number of an enum's value")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<i32, E> {
        i32::try_from(number).map_err(|_| E::custom(format!("{number} is out of range")))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<i32, E> {
        i32::try_from(number).map_err(|_| E::custom(format!("{number} is out of range")))
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<i32, E> {
        N::number(name).or_else(|| name.parse().ok()).ok_or_else(|| E::custom(format!("unknown enum value {name:?}")))
    }

    fn visit_unit<E: Error>(self) -> Result<i32, E> {
        Ok(0)
    }
}
