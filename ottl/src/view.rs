//! What the evaluator asks of the item it runs on: reads through [`View`], staged changes through [`Edit`].
//!
//! Two implementations: the overlay over protobuf bytes, which runs in the gateway, and structs, its naive twin.

use crate::fault::Fault;
use crate::histogram::Rebucketing;
use crate::metric::{Aggregation, Derivation};
use crate::path::{Context, Field};
use crate::value::{Entries, Value};

/// Reads the item, with every edit that was made before.
pub trait View {
    /// The raw value of `field`; [`Field`] says which type. What the item does not have is empty text, no bytes or 0.
    fn read(&self, field: Field) -> Value<'_>;

    /// The value of the first attribute of `level` called `key`; an attribute without a value is [`Value::Nil`].
    fn attribute(&self, level: Context, key: &[u8]) -> Option<Value<'_>>;

    /// Of a metric, the value of the attribute called `key` of the first data point that has one.
    fn first_point_attribute(&self, _key: &[u8]) -> Option<Value<'_>> {
        None
    }
}

/// Changes the item. Where a key occurs more than once (OTLP forbids it), a change applies to each.
pub trait Edit: View {
    /// Sets a field that is not a map; `value` has the field's raw type.
    fn write(&mut self, field: Field, value: &Value<'_>);

    /// Sets an attribute: the first one called `key`, or a new one at the end; further ones of that name go.
    fn set_attribute(&mut self, level: Context, key: &[u8], value: &Value<'_>);

    /// Removes the attributes called `key`.
    fn remove_attribute(&mut self, level: Context, key: &[u8]) {
        self.retain_attributes(level, &mut |name| name != key);
    }

    /// Removes the attributes whose key `keep` refuses.
    fn retain_attributes(&mut self, level: Context, keep: &mut dyn FnMut(&[u8]) -> bool);

    /// Multiplies what the data points of a metric have measured.
    ///
    /// # Errors
    /// It is no metric, or one whose points cannot be scaled; nothing changed.
    fn scale_points(&mut self, _factor: f64) -> Result<(), Fault> {
        Err(Fault::invalid("only metrics are scaled"))
    }

    /// Makes a metric of the metric, beside it; nothing if the derivation is of other kinds of points.
    ///
    /// # Errors
    /// It is no metric, or one of which nothing like it can be made, or too many were made; nothing was made.
    fn derive(&mut self, _derivation: &Derivation) -> Result<(), Fault> {
        Err(Fault::invalid("only metrics are made of"))
    }

    /// Makes one of those points of a metric that differ in nothing but their values.
    ///
    /// # Errors
    /// It is no metric, or its points cannot become one; nothing changed.
    fn aggregate(&mut self, _aggregation: &Aggregation) -> Result<(), Fault> {
        Err(Fault::invalid("only points of metrics are put together"))
    }

    /// Makes an exponential histogram an explicit one; another metric stays as it is.
    ///
    /// # Errors
    /// It is no metric, or it would become too large; nothing changed.
    fn rebucket(&mut self, _rebucketing: &Rebucketing) -> Result<(), Fault> {
        Err(Fault::invalid("only metrics have buckets"))
    }

    /// Replaces all attributes.
    fn replace_attributes(&mut self, level: Context, entries: &Entries<'_>);
}
