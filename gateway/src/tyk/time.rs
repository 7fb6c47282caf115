//! Times as RFC 3339 writes them, in milliseconds since 1970.

/// Reads `2026-11-23T01:20:00.511354204Z`, or one with an offset; what is finer than a millisecond is cut off.
pub(super) fn parse(text: &str) -> Option<i64> {
    let (date, rest) = text.split_once(['T', 't'])?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (time, offset_minutes) = match rest.strip_suffix(['Z', 'z']) {
        Some(time) => (time, 0),
        None => {
            let at = rest.rfind(['+', '-'])?;
            let (time, offset) = rest.split_at_checked(at)?;
            let (hours, minutes) = offset.get(1..)?.split_once(':')?;
            let minutes = hours.parse::<i64>().ok()?.checked_mul(60)?.checked_add(minutes.parse().ok()?)?;
            (time, if offset.starts_with('-') { -minutes } else { minutes })
        }
    };
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut time = time.splitn(3, ':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let in_range = (0..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..=60).contains(&second)
        && offset_minutes.abs() < 24 * 60
        && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let millis = format!("{fraction:0<3}").get(..3)?.parse::<i64>().ok()?;
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + (minute - offset_minutes) * 60 + second;
    in_range.then_some(seconds * 1_000 + millis)
}

/// Writes a time of the years 1970 to 9999.
pub(super) fn text(ms: i64) -> String {
    let ms = ms.clamp(0, 253_402_300_799_999);
    let (days, rest) = (ms / 86_400_000, ms % 86_400_000);
    let (year, month, day) = date(days);
    let (hour, minute, second, milli) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1_000 % 60, rest % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// Days since 1970 of a date of the Gregorian calendar: years begin in March, so that the leap day is the last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468
}

fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        check("1970-01-01T00:00:00.000Z", 0);
        check("2026-11-23T01:20:00.511Z", 1_795_396_800_511);
        check("2000-02-29T23:59:59.999Z", 951_868_799_999);
        check("9999-12-31T23:59:59.999Z", 253_402_300_799_999);
    }

    #[track_caller]
    fn check(expected: &str, ms: i64) {
        assert_eq!(parse(expected), Some(ms));
        assert_eq!(text(ms), expected);
    }

    #[test]
    fn other_spellings_of_a_time_are_read() {
        assert_eq!(parse("2026-11-23T01:20:00.511354204Z"), Some(1_795_396_800_511));
        assert_eq!(parse("2026-11-23T02:20:00+01:00"), Some(1_795_396_800_000));
        assert_eq!(parse("0001-01-01T00:00:00Z").map(i64::is_negative), Some(true));
        for text in ["", "T", "2026-13-01T00:00:00Z", "2026-11-23 01:20:00Z", "2026-11-23T01:20:00", "é+é"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
