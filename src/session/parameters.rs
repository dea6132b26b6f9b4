//! The values that a server reports with `ParameterStatus`, and that a client believes.

use std::sync::Arc;

/// Reported parameters, in the order in which they were first reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    entries: Vec<(Box<str>, Box<str>)>,
}

/// Says whether the node is a standby: true of nodes, not of the one server that a client believes in.
const IN_HOT_STANDBY: &str = "in_hot_standby";

impl Parameters {
    /// Takes note of what a server reported; what it says of itself as a standby is hidden from clients.
    pub fn report(&mut self, name: &str, value: &str) {
        let value = if name == IN_HOT_STANDBY { "off" } else { value };
        match self.entries.iter_mut().find(|(entry, _)| **entry == *name) {
            Some((_, entry)) if **entry == *value => {}
            Some((_, entry)) => *entry = value.into(),
            None => self.entries.push((name.into(), value.into())),
        }
    }

    /// The value last reported for `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.entries.iter().find(|(entry, _)| **entry == *name).map(|(_, value)| &**value)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Whether a client must be told of `name`.
    #[must_use]
    pub fn concerns_clients(name: &str) -> bool {
        name != IN_HOT_STANDBY
    }
}

/// Takes note in a shared value, copying it only when something changes.
pub fn report(shared: &mut Arc<Parameters>, name: &str, value: &str) {
    if shared.get(name) != Some(value) {
        Arc::make_mut(shared).report(name, value);
    }
}

/// What `believed` must be told to agree with `reported`; nothing when they are the same value already.
///
/// When they are equal, `reported` becomes the same allocation, so that the next comparison is one of pointers.
pub fn catch_up(believed: &mut Arc<Parameters>, reported: &mut Arc<Parameters>, mut tell: impl FnMut(&str, &str)) {
    if Arc::ptr_eq(believed, reported) {
        return;
    }
    if **believed == **reported {
        *reported = Arc::clone(believed);
        return;
    }
    for (name, value) in reported.iter() {
        if believed.get(name) != Some(value) && Parameters::concerns_clients(name) {
            tell(name, value);
        }
    }
    *believed = Arc::clone(reported);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_told() {
        let mut believed = Arc::new(Parameters::default());
        report(&mut believed, "TimeZone", "UTC");
        report(&mut believed, "DateStyle", "ISO, MDY");
        let mut reported = Arc::new((*believed).clone());
        report(&mut reported, "in_hot_standby", "on");
        report(&mut reported, "TimeZone", "Asia/Tokyo");
        let mut told = Vec::new();
        catch_up(&mut believed, &mut reported, |name, value| told.push((name.to_owned(), value.to_owned())));
        assert_eq!(told, [("TimeZone".to_owned(), "Asia/Tokyo".to_owned())]);
        assert!(Arc::ptr_eq(&believed, &reported));
        let mut equal = Arc::new((*believed).clone());
        catch_up(&mut believed, &mut equal, |_, _| panic!("nothing to tell"));
        assert!(Arc::ptr_eq(&believed, &equal));
    }
}
