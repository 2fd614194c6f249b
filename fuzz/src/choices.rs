//! Random bytes as decisions, so that input is nearly right: what is wrong everywhere is refused at the first byte.

use serde_json::{Value, json};

/// Bytes that decide; each choice is the first once none is left.
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    /// Decisions made by these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether nothing is left to decide by.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    /// A number below `count`, or 0.
    pub fn below(&mut self, count: usize) -> usize {
        let number = u32::from_le_bytes([self.byte(), self.byte(), self.byte(), 0]);
        number as usize % count.max(1)
    }

    /// One of these.
    pub fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// All bytes that are left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// Changes some values inside a JSON value, or takes them out.
    pub fn edit_json(&mut self, value: &mut Value) {
        for _ in 0..1 + self.below(3) {
            self.edit_at(value, 0);
        }
    }

    /// Changes some bytes, or takes a part out.
    pub fn edit_bytes(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..1 + self.below(3) {
            let at = self.below(bytes.len());
            match (self.byte() % 4, bytes.get_mut(at)) {
                (0, Some(byte)) => *byte = self.byte(),
                (1, Some(byte)) => *byte ^= 1 << (self.byte() % 8),
                (2, Some(_)) => drop(bytes.drain(at..at + self.below(bytes.len() - at))),
                _ => bytes.insert(at, self.byte()),
            }
        }
    }

    fn edit_at(&mut self, value: &mut Value, depth: usize) {
        let deeper = depth == 0 || self.byte().is_multiple_of(2);
        match value {
            Value::Object(map) if deeper && !map.is_empty() => {
                let Some(key) = map.keys().nth(self.below(map.len())).cloned() else {
                    return;
                };
                match self.byte() % 8 {
                    0 => drop(map.remove(&key)),
                    1 => {
                        let moved = map.remove(&key).unwrap_or_default();
                        map.insert(format!("{key}x"), moved);
                    }
                    _ => self.edit_at(&mut map[&key], depth + 1),
                }
            }
            Value::Array(items) if deeper && !items.is_empty() => {
                let at = self.below(items.len());
                self.edit_at(&mut items[at], depth + 1);
            }
            _ => *value = self.json(),
        }
    }

    fn json(&mut self) -> Value {
        match self.byte() % 22 {
            0 => Value::Null,
            1 => json!(true),
            2 => json!(false),
            3 => json!(0),
            4 => json!(1),
            5 => json!(-1),
            6 => json!(self.below(300)),
            7 => json!(u32::MAX),
            8 => json!(1_u64 << 32),
            9 => json!(u64::MAX),
            10 => json!(i64::MIN),
            11 => json!(0.5),
            12 => json!(1e300),
            13 => json!(5e-324),
            14 => json!(""),
            15 => json!("1"),
            16 => json!("default"),
            17 => json!("../other"),
            18 => json!([]),
            19 => json!([1, [2, {"3": 4}]]),
            20 => json!({}),
            _ => json!({"type": "linear", "factor": 2}),
        }
    }
}
