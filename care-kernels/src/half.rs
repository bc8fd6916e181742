//! Conversions to 16-bit floats.

/// The bits of the nearest bfloat16 number, ties to even.
pub(crate) fn bf16_bits(x: f32) -> u16 {
    let bits = x.to_bits();
    match x.is_nan() {
        true => (bits >> 16) as u16 | 0x40,
        false => ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16,
    }
}

/// The bits of the nearest IEEE half-precision number, ties to even; an infinity beyond 65,504.
pub(crate) fn f16_bits(x: f32) -> u16 {
    let sign = (x.to_bits() >> 16) as u16 & 0x8000;
    let magnitude = x.abs();
    let bits = magnitude.to_bits();
    let rounded = if x.is_nan() {
        0x7e00
    } else if magnitude >= 65520.0 {
        0x7c00
    } else if magnitude < f32::from_bits((127 - 14) << 23) {
        // Subnormal: multiples of 2^-24, which is the last bit of numbers from 0.5 to 1.
        (magnitude + 0.5).to_bits() - 0.5f32.to_bits()
    } else {
        (bits + 0xfff + (bits >> 13 & 1) - (112 << 23)) >> 13
    };
    sign | rounded as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of half-precision bits, by the definition of the format.
    fn value(bits: u16) -> f32 {
        let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
        let magnitude = match exponent {
            0 => fraction * 2f64.powi(-24),
            31 if fraction == 0.0 => f64::INFINITY,
            31 => f64::NAN,
            _ => (1.0 + fraction / 1024.0) * 2f64.powi(exponent - 15),
        };
        (if bits & 0x8000 == 0 { magnitude } else { -magnitude }) as f32
    }

    #[test]
    fn every_number_is_kept_and_what_lies_between_goes_to_the_nearest() {
        for bits in 0..=u16::MAX {
            let number = value(bits);
            match number.is_nan() {
                true => assert!(value(f16_bits(number)).is_nan()),
                false => assert_eq!(f16_bits(number), bits),
            }
            let wide = f32::from_bits(u32::from(bits) << 16);
            match wide.is_nan() {
                true => assert!(f32::from_bits(u32::from(bf16_bits(wide)) << 16).is_nan()),
                false => assert_eq!(bf16_bits(wide), bits),
            }
        }
        for bits in 0..0x7bff {
            let (low, high) = (value(bits), value(bits + 1));
            let middle = (low + high) / 2.0;
            assert_eq!(f16_bits(middle), bits + (bits & 1), "{middle} goes to the even one");
            assert_eq!(f16_bits(middle.next_down()), bits);
            assert_eq!(f16_bits(-middle.next_up()), (bits + 1) | 0x8000);
        }
        for bits in (0..0x7f7f).step_by(7) {
            let wide = |bits: u16| f32::from_bits(u32::from(bits) << 16);
            let middle = f32::from_bits((u32::from(bits) << 16) + 0x8000);
            assert_eq!(bf16_bits(middle), bits + (bits & 1));
            assert_eq!(
                [bf16_bits(middle.next_down()), bf16_bits(middle.next_up())],
                [bits, bits + 1],
                "{}",
                wide(bits)
            );
        }
        assert_eq!([65519.0, 65520.0, 1e30].map(f16_bits), [0x7bff, 0x7c00, 0x7c00]);
    }
}
