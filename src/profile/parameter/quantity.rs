//! Kubernetes quantities (`apimachinery/pkg/api/resource`), exact.

use std::iter::Sum;

/// An amount, in thousand-millionths: the finest that Kubernetes keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Quantity(i128);

const NANO: i128 = 1_000_000_000;

impl Quantity {
    /// The amount in units: bytes, cores.
    pub fn amount(self) -> f64 {
        self.0 as f64 / NANO as f64
    }

    /// Reads a quantity that is not negative.
    ///
    /// # Errors
    /// Text that is no quantity, a negative one, or one beyond anything a machine has.
    pub fn parse(text: &str) -> Result<Self, String> {
        let split = text
            .find(|character: char| !character.is_ascii_digit() && character != '.')
            .unwrap_or(text.len());
        let (number, suffix) = text.split_at(split);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if text.starts_with('-') {
            return Err("it is negative".to_owned());
        }
        if whole.is_empty() && fraction.is_empty() || number.matches('.').count() > 1 {
            return Err("it does not begin with a number".to_owned());
        }
        if whole.len() > 18 || fraction.len() > 9 {
            return Err("it has too many digits".to_owned());
        }
        let scale = scale(suffix)?;
        let digits: i128 = format!("{whole}{fraction}")
            .parse()
            .map_err(|_| "it is no number".to_owned())?;
        let too_big = || "it is too big".to_owned();
        let scaled = digits.checked_mul(scale).ok_or_else(too_big)?;
        let divisor = 10_i128.pow(u32::try_from(fraction.len()).map_err(|_| too_big())?);
        // Kubernetes rounds up what is finer than it keeps.
        let amount = scaled.checked_add(divisor - 1).ok_or_else(too_big)? / divisor;
        if amount > i128::from(i64::MAX).saturating_mul(NANO) {
            return Err(too_big());
        }
        Ok(Self(amount))
    }
}

/// What a suffix stands for, in thousand-millionths.
fn scale(suffix: &str) -> Result<i128, String> {
    let decimal = |power: u32| 10_i128.pow(power);
    Ok(match suffix {
        "n" => 1,
        "u" => decimal(3),
        "m" => decimal(6),
        "" => NANO,
        "k" => decimal(12),
        "M" => decimal(15),
        "G" => decimal(18),
        "T" => decimal(21),
        "P" => decimal(24),
        "E" => decimal(27),
        "Ki" => NANO << 10,
        "Mi" => NANO << 20,
        "Gi" => NANO << 30,
        "Ti" => NANO << 40,
        "Pi" => NANO << 50,
        "Ei" => NANO << 60,
        exponent => {
            let power = exponent
                .strip_prefix(['e', 'E'])
                .and_then(|power| power.strip_prefix('+').unwrap_or(power).parse::<i32>().ok())
                .ok_or_else(|| format!("{suffix:?} is no suffix of a quantity"))?;
            match u32::try_from(power + 9) {
                Ok(power) if power <= 27 => decimal(power),
                _ => return Err("its exponent is out of range".to_owned()),
            }
        }
    })
}

impl Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::default(), |sum, amount| {
            Self(sum.0.saturating_add(amount.0))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_amounts_are_equal_however_they_are_written() {
        for (a, b) in [
            ("1", "1000m"),
            ("1Ki", "1024"),
            ("1.5", "1500m"),
            ("1e3", "1k"),
            ("0.1", "100m"),
            ("1E3", "1000"),
            ("2Gi", "2048Mi"),
            ("1e-3", "1m"),
        ] {
            assert_eq!(Quantity::parse(a), Quantity::parse(b), "{a} {b}");
        }
        assert!(Quantity::parse("100m") < Quantity::parse("1"));
        assert!(Quantity::parse("1M") < Quantity::parse("1Mi"));
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for bad in [
            "",
            "-1",
            "+1",
            "1e999",
            "NaN",
            "٣",
            "1 Gi",
            "1gi",
            "Mi",
            "1..2",
            ".",
            "1Ei1",
            "100m\"\n",
            "99999999999999999999",
            "16Ei",
        ] {
            assert!(Quantity::parse(bad).is_err(), "{bad}");
        }
    }
}
