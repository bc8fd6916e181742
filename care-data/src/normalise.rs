//! The form in which texts are compared.

use unicode_normalization::UnicodeNormalization;

/// The form in which texts are compared: without differences in compatibility characters, width, case, white space and punctuation.
///
/// Comparisons, signs, decimal points and the like are no punctuation beside a digit, and digits that something
/// separates do not become one number. A text of punctuation alone stays as it is.
///
/// ```
/// use care_data::normalise;
///
/// assert_eq!(normalise("Ⅱ型糖尿病，ＨｂＡ１ｃ ＞ 7.0%。"), "ii型糖尿病hba1c>7.0%");
/// assert_ne!(normalise("血压<90"), normalise("血压>90"));
/// ```
pub fn normalise(text: &str) -> String {
    let folded = folded(text);
    let characters: Vec<char> = folded.chars().collect();
    let mut form = String::with_capacity(folded.len());
    let (mut dropped, mut ahead) = (false, Ahead::default());
    for (place, &character) in characters.iter().enumerate() {
        if !character.is_alphanumeric() && !is_symbol(&characters, place, &mut ahead) {
            dropped = true;
            continue;
        }
        // "140 90" is not "14090".
        if dropped && character.is_ascii_digit() && form.ends_with(|last: char| last.is_ascii_digit()) {
            form.push(' ');
        }
        dropped = false;
        form.extend(character.to_lowercase());
    }
    if form.is_empty() { folded.trim().to_owned() } else { form }
}

/// Whether the character at a place, which is no letter or digit, changes the meaning of a text.
fn is_symbol(characters: &[char], place: usize, ahead: &mut Ahead) -> bool {
    let number_precedes = || {
        let before = characters[..place].iter().rev().find(|character| !character.is_whitespace());
        before.is_some_and(|character| character.is_numeric())
    };
    match characters[place] {
        // Results of tests and charges of ions need no digit: "HBsAg(+)", "10⁻⁹", "Na⁺".
        '+' | '±' | '⁺' | '⁻' => true,
        // The end of a sentence may be followed by a space and a digit.
        '.' => characters.get(place + 1).is_some_and(|character| character.is_numeric()),
        '-' => ahead.is_number(characters, place),
        '<' | '>' | '≤' | '≥' | '/' | '%' | '‰' => number_precedes() || ahead.is_number(characters, place),
        _ => false,
    }
}

/// Whether a number follows, and up to which place that is known: a long line of dashes is looked over once.
#[derive(Default)]
struct Ahead {
    until: usize,
    is_number: bool,
}

impl Ahead {
    /// Whether a number follows a place. A sign or a decimal point may stand before its digit: "P < .05", "<-5".
    fn is_number(&mut self, characters: &[char], place: usize) -> bool {
        if place >= self.until {
            let is_start = |character: &char| !character.is_whitespace() && !matches!(character, '.' | '-' | '+' | '±');
            let start = (place + 1..characters.len()).find(|&at| is_start(&characters[at]));
            self.until = start.unwrap_or(characters.len());
            self.is_number = start.is_some_and(|at| characters[at].is_numeric());
        }
        self.is_number
    }
}

/// A text as it is usually typed: in NFKC, with units and Roman numerals in letters, and with one character for each sign.
///
/// DIFFERENCE from NFKC: exponents, indices, fractions and numbers in circles stay, since 10⁹ is not 109, and the
/// ellipsis and the trade mark do not become points and letters.
fn folded(text: &str) -> String {
    let (mut form, mut from) = (String::with_capacity(text.len()), 0);
    for (place, character) in text.char_indices().filter(|(_, character)| is_kept(*character)) {
        form.extend(text[from..place].nfkc());
        match unit(character) {
            Some(unit) => form.push_str(unit),
            None => form.push(character),
        }
        from = place + character.len_utf8();
    }
    form.extend(text[from..].nfkc());
    form.chars().map(sign).collect::<String>().replace("<=", "≤").replace(">=", "≥")
}

/// Whether NFKC would change the meaning of a character beside a digit or letter.
fn is_kept(character: char) -> bool {
    unit(character).is_some()
        || matches!(character,
            '²' | '³' | '¹' | '¼'..='¾' | '\u{2070}'..='\u{208e}' | '\u{2150}'..='\u{215f}' | '\u{2189}'
            | '\u{2460}'..='\u{24ff}' | '\u{3200}'..='\u{32bf}' | '‥' | '…' | '℠' | '™')
}

/// Units in one character with an exponent, which NFKC makes a digit.
fn unit(character: char) -> Option<&'static str> {
    Some(match character {
        '㎟' => "mm²",
        '㎠' => "cm²",
        '㎡' => "m²",
        '㎢' => "km²",
        '㎣' => "mm³",
        '㎤' => "cm³",
        '㎥' => "m³",
        '㎦' => "km³",
        '㎨' => "m/s²",
        '㎯' => "rad/s²",
        _ => return None,
    })
}

/// One character for each sign, as NFKC leaves several.
fn sign(character: char) -> char {
    match character {
        '\u{2010}'..='\u{2013}' | '−' => '-',
        '≦' | '⩽' => '≤',
        '≧' | '⩾' => '≥',
        '∕' | '⁄' => '/',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_compared_without_width_case_space_and_marks() {
        assert_eq!(normalise("ＣＴ 检查（头部）"), normalise("ct检查头部"));
        assert_ne!(normalise("血压140"), normalise("血压14.5"));
        assert_eq!(normalise("<头痛> - 检查/治疗."), normalise("头痛检查治疗"));
    }

    #[test]
    fn symbols_beside_digits_are_no_punctuation() {
        let different = [
            ("血压<90", "血压>90"),
            ("血压 ＜ 90", "血压 ＞ 90"),
            ("血压≤90", "血压≥90"),
            ("血压>=90", "血压>90"),
            ("P<.05", "P>.05"),
            ("血糖 5.6", "血糖 56"),
            ("血糖 .5", "血糖 5"),
            ("-5℃", "5℃"),
            ("−5", "5"),
            ("5-10", "510"),
            ("±2", "2"),
            ("+2", "-2"),
            ("HBsAg(+)", "HBsAg(-)"),
            ("1/2", "12"),
            ("140 90", "14090"),
            ("1：2", "12"),
            ("5%", "5"),
            ("5‰", "5%"),
            ("10⁹", "109"),
            ("10⁹", "10"),
            ("10⁻⁹", "10⁹"),
            ("10^9", "109"),
            ("。", "？"),
        ];
        for (a, b) in different {
            assert_ne!(normalise(a), normalise(b), "{a} {b}");
        }
        let same = [
            ("血压＜90", "血压 < 90"),
            ("血压>=90", "血压≧90"),
            ("１４０／９０", "140 / 90"),
            ("5．6％", "5.6%"),
            ("－5", "−5"),
            ("有3天. 5岁", "有3天 5岁"),
        ];
        for (a, b) in same {
            assert_eq!(normalise(a), normalise(b), "{a} {b}");
        }
    }

    #[test]
    fn a_long_line_of_dashes_is_read_once_and_its_end_decides() {
        // Once, each dash looked for a digit behind all others.
        let dashes = "- ".repeat(1_000_000);
        assert_eq!(normalise(&format!("头痛{dashes}发热")), "头痛发热");
        assert_eq!(normalise(&format!("{dashes}5 -- /")), format!("{}5", "-".repeat(1_000_000)));
        assert_eq!(normalise("3 - - < 5 - 药"), "3<5药");
    }

    #[test]
    fn units_and_numerals_in_one_character_are_as_their_letters() {
        let same = [
            ("5㎎", "5mg"),
            ("5㎏", "5 KG"),
            ("5㎝×3㎜", "5cm×3mm"),
            ("5㎖", "5ml"),
            ("5㎍", "5μg"),
            ("5µg", "5μg"),
            ("3㎡", "3m²"),
            ("37℃", "37°C"),
            ("Ⅱ型", "II型"),
            ("ⅻ", "XII"),
            ("Ⅿ", "m"),
            ("ＣＴ１", "ct1"),
            ("9.8㎨", "9.8m/s²"),
            ("㏒", "log"),
            // Radicals and compatibility ideographs of text from PDF files, half-width kana, ligatures, accents.
            ("⽤⼿⾜", "用手足"),
            ("\u{f9c4}", "龍"),
            ("ｱﾚﾙｷﾞ", "アレルギ"),
            ("eﬃcacy", "efficacy"),
            ("Me\u{301}nie\u{300}re", "Ménière"),
        ];
        for (a, b) in same {
            assert_eq!(normalise(a), normalise(b), "{a} {b}");
        }
        for (a, b) in [
            ("3㎡", "3m2"),
            ("5㎎", "5㎍"),
            ("Ⅱ型", "Ⅲ型"),
            ("5½", "51/2"),
            ("5①", "51"),
            ("约…5天", "约.5天"),
            ("H₂O", "H2O"),
        ] {
            assert_ne!(normalise(a), normalise(b), "{a} {b}");
        }
    }

    #[test]
    fn trade_marks_are_no_letters() {
        assert_eq!(normalise("拜新同™ 30㎎"), normalise("拜新同30mg"));
    }
}
