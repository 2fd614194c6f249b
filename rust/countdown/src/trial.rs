//! Trials: divisions written out, so that whether a large number divides need not be seen at once.

use crate::arithmetic::Value;

/// What a division takes of the divisor next: the first digit of the quotient of what is left, with zeros after it.
/// `None` if what is left is less than the divisor, which is at least 1.
pub(crate) fn times<V: Value>(rest: V, divisor: V) -> Option<V> {
    let ten = V::from(10);
    let quotient = rest / divisor;
    if quotient == V::default() {
        return None;
    }
    let mut unit = V::from(1);
    while quotient / unit >= ten {
        unit = unit * ten;
    }
    Some(quotient / unit * unit)
}
