//! Facets: how many traces have which name, type, status, tag or metadata; of each key the most frequent
//! values, of all keys the most frequent. Pure data, bounded however many values there are.

use std::cmp::Reverse;

/// As many values of a key are kept.
const VALUES_MAX: usize = 20;
/// As many keys of the metadata are kept beside the others.
const METADATA_KEYS_MAX: usize = 50;

/// Before the key of an entry of the metadata.
pub(crate) const METADATA: &str = "metadata.";

/// The facets of a group of traces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facets {
    keys: Vec<Key>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    name: String,
    /// Of all its values, those that are not kept too.
    n: u64,
    values: Vec<(String, u64)>,
}

/// A value and how many traces have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facet<'a> {
    /// `name`, `run_type`, `status`, `tag` or `metadata.` and a key of the metadata.
    pub(crate) key: &'a str,
    pub(crate) value: &'a str,
    pub(crate) n: u64,
}

impl Facets {
    /// Adds a value. They come by their keys, those of a key the most frequent first.
    pub(crate) fn add(&mut self, facet: Facet<'_>) {
        let is_next = self.keys.last().is_none_or(|last| last.name != facet.key);
        if is_next {
            self.forget_the_least();
            self.keys.push(Key {
                name: facet.key.to_owned(),
                n: 0,
                values: Vec::new(),
            });
        }
        if let Some(key) = self.keys.last_mut() {
            key.n = key.n.saturating_add(facet.n);
            if key.values.len() < VALUES_MAX {
                key.values.push((facet.value.to_owned(), facet.n));
            }
        }
    }

    /// The most frequent first, then by key and value.
    pub(crate) fn all(&self) -> Vec<Facet<'_>> {
        let mut all: Vec<Facet<'_>> = Vec::new();
        let mut keys: Vec<&Key> = self.keys.iter().collect();
        keys.sort_by_key(|key| (Reverse(key.n), &key.name));
        let mut room = METADATA_KEYS_MAX;
        for key in keys {
            let is_metadata = key.name.starts_with(METADATA);
            if is_metadata && room == 0 {
                continue;
            }
            room -= usize::from(is_metadata);
            all.extend(key.values.iter().map(|(value, n)| Facet {
                key: &key.name,
                value,
                n: *n,
            }));
        }
        all.sort_by_key(|facet| (Reverse(facet.n), facet.key, facet.value));
        all
    }

    /// Makes room for another key.
    fn forget_the_least(&mut self) {
        let of_metadata = self.keys.iter().enumerate();
        let of_metadata = of_metadata.filter(|(_, key)| key.name.starts_with(METADATA));
        if of_metadata.clone().count() <= METADATA_KEYS_MAX {
            return;
        }
        // Of equal ones the last by name.
        let least = of_metadata.min_by_key(|(_, key)| (key.n, Reverse(key.name.clone())));
        if let Some((index, _)) = least {
            self.keys.remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_are_kept() {
        let mut facets = Facets::default();
        let add = |facets: &mut Facets, key: &str, value: &str, n| {
            facets.add(Facet { key, value, n });
        };
        for number in 0..200_u64 {
            let key = format!("metadata.k{number:03}");
            for value in 0..30 {
                let n = (number * 37 % 200) * 100 + 30 - value;
                add(&mut facets, &key, &format!("v{value:02}"), n);
            }
        }
        add(&mut facets, "name", "rare", 1);
        let all = facets.all();
        assert_eq!(all.len(), METADATA_KEYS_MAX * VALUES_MAX + 1);
        assert!(all.is_sorted_by_key(|facet| (Reverse(facet.n), facet.key, facet.value)));
        assert_eq!(all.last().map(|last| last.key), Some("name"));
        // Key 27 has the factor 199, and so on down to 150.
        assert_eq!(
            all[0],
            Facet {
                key: "metadata.k027",
                value: "v00",
                n: 19_930
            }
        );
        assert!(all.iter().all(|facet| facet.n == 1 || facet.n > 15_000));
    }
}
