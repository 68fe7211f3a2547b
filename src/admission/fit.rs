//! A price from measurements: least squares, no part of it below zero.
//!
//! What cannot be told apart by the measurements (a header always has 81 bytes, so its price per item and that of its bytes are
//! one number) has to be known from elsewhere: [`Known`]. Errors count in relation to what was measured, so that a request
//! of 5 units weighs as much as one of 5,000.

use super::cost::Price;

/// Most of a part of a price, thousandths of a unit: what the configuration takes.
const MOST: f64 = 1e9;
/// Below this part of the largest a pivot is rounding: the measurements do not tell the parts apart.
const SINGULAR: f64 = 1e-9;
/// Another part of the price has to explain more than this of the squared errors to be there.
const GAIN: f64 = 1e-9;

/// What requests of one shape have cost.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sample {
    /// Items of a request.
    pub items: f64,
    /// Units of 1,024 bytes of it.
    pub kib: f64,
    /// What it has cost, units.
    pub units: f64,
}

/// Parts of a price that are known from elsewhere, units.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Known {
    /// Of a request.
    pub base: Option<f64>,
    /// Of an item.
    pub per_item: Option<f64>,
    /// Of 1,024 bytes; less, if a sample with so many bytes has cost less.
    pub per_kib: Option<f64>,
}

/// A price, and how well it says what was measured.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Fit {
    /// The price.
    pub price: Price,
    /// The largest difference to a sample, as a part of that sample.
    pub error: f64,
}

/// The price that fits the samples best. Without a usable sample (finite, and more than nothing) there is none.
pub fn fit(samples: &[Sample], known: Known) -> Option<Fit> {
    let usable = |s: &&Sample| s.units > 0.0 && [s.items, s.kib, s.units].iter().all(|n| n.is_finite());
    let samples: Vec<Sample> = samples.iter().filter(usable).copied().collect();
    if samples.is_empty() {
        return None;
    }
    let dearest = |per_kib: f64| {
        samples.iter().filter(|s| s.kib > 0.0).map(|s| s.units / s.kib).fold(per_kib, f64::min)
    };
    let fixed = [known.base, known.per_item, known.per_kib.map(dearest)];
    let mut best: Option<([f64; 3], f64)> = None;
    // Fewer parts first: one more has to earn its place.
    let mut choices: Vec<u8> = (0..8).filter(|set| free(*set).all(|n| fixed[n].is_none())).collect();
    choices.sort_by_key(|set| set.count_ones());
    for set in choices {
        let Some(parts) = solve(&samples, fixed, set).filter(|parts| parts.iter().all(|part| *part >= 0.0))
        else {
            continue;
        };
        let error = samples.iter().map(|s| off(s, parts).powi(2)).sum::<f64>();
        if best.is_none_or(|(_, least)| error < least - GAIN) {
            best = Some((parts, error));
        }
    }
    let (parts, _) = best?;
    let [base, per_item, per_kib] = parts.map(|units| (units * 1_000.0).round().clamp(0.0, MOST) as u32);
    let error = samples.iter().map(|s| off(s, parts).abs()).fold(0.0, f64::max);
    Some(Fit { price: Price { base, per_item, per_kib }, error })
}

/// The parts in a set.
fn free(set: u8) -> impl Iterator<Item = usize> {
    (0..3).filter(move |n| set & (1 << n) != 0)
}

/// What a sample is made of: one request, its items, its bytes.
fn row(sample: &Sample) -> [f64; 3] {
    [1.0, sample.items, sample.kib]
}

/// How far a price is from a sample, as a part of it.
fn off(sample: &Sample, parts: [f64; 3]) -> f64 {
    let sum: f64 = row(sample).iter().zip(parts).map(|(much, part)| much * part).sum();
    sum / sample.units - 1.0
}

/// Least squares over the parts of `set`; the others are as `fixed`, or nothing. None if the samples do not determine them.
fn solve(samples: &[Sample], fixed: [Option<f64>; 3], set: u8) -> Option<[f64; 3]> {
    let mut parts = fixed.map(Option::unwrap_or_default);
    let columns: Vec<usize> = free(set).collect();
    let size = columns.len();
    // Normal equations, the right side as the last column.
    let mut table = [[0.0_f64; 4]; 3];
    for sample in samples {
        let row = row(sample).map(|much| much / sample.units);
        let rest = -off(sample, parts);
        for (i, a) in columns.iter().enumerate() {
            for (j, b) in columns.iter().enumerate() {
                table[i][j] += row[*a] * row[*b];
            }
            table[i][size] += row[*a] * rest;
        }
    }
    // Columns of very different size are made alike, so that a small pivot means what it says.
    let scale: Vec<f64> = (0..size).map(|i| table[i][i].sqrt()).collect();
    if scale.contains(&0.0) {
        return None;
    }
    for i in 0..size {
        for j in 0..size {
            table[i][j] /= scale[i] * scale[j];
        }
        table[i][size] /= scale[i];
    }
    for at in 0..size {
        let pivot = table[at][at];
        if pivot < SINGULAR {
            return None;
        }
        let this = table[at];
        for (_, other) in table.iter_mut().enumerate().take(size).filter(|(n, _)| *n != at) {
            let factor = other[at] / pivot;
            other.iter_mut().zip(this).for_each(|(to, from)| *to -= factor * from);
        }
    }
    for (i, column) in columns.iter().enumerate() {
        parts[*column] = table[i][size] / table[i][i] / scale[i];
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(items: f64, kib: f64, units: f64) -> Sample {
        Sample { items, kib, units }
    }

    /// Samples of a price, each off by a factor.
    fn made(parts: [f64; 3], shapes: &[(f64, f64)], factors: &[f64]) -> Vec<Sample> {
        let of = |((items, kib), factor): (&(f64, f64), &f64)| {
            sample(*items, *kib, (parts[0] + items * parts[1] + kib * parts[2]) * factor)
        };
        shapes.iter().zip(factors).map(of).collect()
    }

    const SHAPES: [(f64, f64); 4] = [(1.0, 0.3), (16.0, 5.0), (1.0, 976.0), (4.0, 3_906.0)];

    proptest! {
        #[test]
        fn what_was_measured_exactly_is_found(base in 0.1_f64..1e4, item in 0.1_f64..1e4, kib in 0.1_f64..1e3) {
            let fit = fit(&made([base, item, kib], &SHAPES, &[1.0; 4]), Known::default()).unwrap();
            for (found, wanted) in
                [(fit.price.base, base), (fit.price.per_item, item), (fit.price.per_kib, kib)]
            {
                prop_assert!((f64::from(found) - wanted * 1_000.0).abs() < 1.0 + wanted, "{} {}", found, wanted);
            }
            prop_assert!(fit.error < 1e-6);
        }

        #[test]
        fn noise_makes_no_part_negative_and_the_sum_stays_near(
            base in 0.0_f64..100.0, item in 0.0_f64..100.0, kib in 0.0_f64..10.0,
            noise in prop::collection::vec(0.9_f64..1.1, 4),
        ) {
            prop_assume!(base + item + kib > 0.1);
            // The true price is off by the noise at most; the best in squares is not much worse anywhere.
            let fit = fit(&made([base, item, kib], &SHAPES, &noise), Known::default()).unwrap();
            prop_assert!(fit.error <= 0.25, "{:?}", fit);
        }
    }

    #[test]
    fn what_is_known_stays_and_the_rest_follows() {
        // Headers: bytes go with the items.
        let samples = made([8.0, 0.02, 1.0], &[(1.0, 0.08), (2_000.0, 158.0)], &[1.0; 2]);
        let known = Known { per_kib: Some(1.0), ..Known::default() };
        let found = fit(&samples, known).unwrap();
        assert_eq!(found.price, Price { base: 8_000, per_item: 20, per_kib: 1_000 });
        let known = Known { base: Some(0.0), per_item: Some(3.0), per_kib: Some(2.0) };
        let found = fit(&[sample(1.0, 0.0, 6.0)], known).unwrap();
        assert_eq!((found.price, found.error), (Price { base: 0, per_item: 3_000, per_kib: 2_000 }, 0.5));
    }

    #[test]
    fn bytes_that_cost_less_than_is_known_are_not_made_dearer() {
        let known = Known { per_kib: Some(1.0), ..Known::default() };
        let found = fit(&[sample(1.0, 0.0, 5.0), sample(2_000.0, 100.0, 50.0)], known).unwrap();
        assert_eq!((found.price.per_item, found.price.per_kib), (0, 500));
        assert!(found.error < 0.15, "{found:?}");
    }

    #[test]
    fn one_shape_tells_one_part_and_nothing_is_no_price() {
        let found = fit(&[sample(1.0, 0.0, 4.0), sample(1.0, 0.0, 6.0)], Known::default()).unwrap();
        assert_eq!((found.price.per_item, found.price.per_kib), (0, 0));
        // The errors are relative: 4 weighs more than 6.
        assert_eq!(found.price.base, 4_615);
        assert_eq!(fit(&[], Known::default()), None);
        let nonsense = [sample(1.0, 1.0, 0.0), sample(1.0, 1.0, -3.0), sample(1.0, f64::NAN, 3.0)];
        assert_eq!(fit(&nonsense, Known::default()), None);
    }

    #[test]
    fn what_is_too_dear_for_the_configuration_is_cut() {
        let found = fit(&[sample(1.0, 0.0, 1e12)], Known::default()).unwrap();
        assert_eq!(found.price.base, 1_000_000_000);
    }
}
