//! A learning curve as a TensorBoard event file: a TFRecord file of `Event` messages.
//!
//! The framing is that of tensorflow/core/lib/io/record_writer.h; the messages are the part of
//! tensorflow/core/util/event.proto and framework/summary.proto that scalars need.

use super::curve::Curve;
use prost::Message;

/// The file's name: TensorBoard reads files with `tfevents` in their names.
pub const FILE: &str = "events.out.tfevents.0.wbc";

#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds for TensorBoard; the number of the epoch here, so that equal runs have equal files.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

/// The whole file: the version, then one event per epoch, whose step is the epoch. Further epochs only append to it.
pub(super) fn encode(curve: &Curve) -> Vec<u8> {
    let mut bytes = Vec::new();
    put(&mut bytes, &Event { file_version: Some("brain.Event:2".into()), ..Default::default() });
    for (row, tested) in curve.points() {
        let scalars = [
            ("train/loss", Some(row.train_loss)),
            ("train/accuracy", Some(row.train_accuracy)),
            ("train/learning_rate", Some(row.learning_rate)),
            ("test/balanced_accuracy", tested),
        ];
        let value =
            |(tag, value): (&str, Option<f64>)| Some(Value { tag: tag.into(), simple_value: Some(value? as f32) });
        let summary = Some(Summary { value: scalars.into_iter().filter_map(value).collect() });
        let (wall_time, step) = (row.epoch.into(), row.epoch.into());
        put(&mut bytes, &Event { wall_time, step, summary, file_version: None });
    }
    bytes
}

/// Appends a record: the message's length, the checksum of the length, the message, the checksum of the message.
fn put(bytes: &mut Vec<u8>, event: &Event) {
    let data = event.encode_to_vec();
    let length = (data.len() as u64).to_le_bytes();
    bytes.extend(length);
    bytes.extend(masked(&length).to_le_bytes());
    bytes.extend(&data);
    bytes.extend(masked(&data).to_le_bytes());
}

/// CRC-32C, rotated and offset as TFRecord requires, so that checksums of data that contain checksums stay useful.
fn masked(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::checkpoint::Epoch;

    /// What tensorboard 2.21.0 writes for the same values:
    ///
    /// ```python
    /// import io
    /// from tensorboard.compat.proto.event_pb2 import Event
    /// from tensorboard.compat.proto.summary_pb2 import Summary
    /// from tensorboard.summary.writer.record_writer import RecordWriter
    /// out = io.BytesIO()
    /// writer = RecordWriter(out)
    /// writer.write(Event(file_version="brain.Event:2").SerializeToString())
    /// first = {"train/loss": 1.5, "train/accuracy": 0.25, "train/learning_rate": 1e-3}
    /// second = {"train/loss": 0, "train/accuracy": 1, "train/learning_rate": 5e-4, "test/balanced_accuracy": 0.75}
    /// for epoch, values in [(1, first), (2, second)]:
    ///     value = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
    ///     writer.write(Event(wall_time=epoch, step=epoch, summary=Summary(value=value)).SerializeToString())
    /// print(out.getvalue().hex())
    /// ```
    const EXPECTED: &str = "\
        0f000000000000006d532b091a0d627261696e2e4576656e743a32fc98512953000000000000000d7d4e9109000000000000\
        f03f10012a460a110a0a747261696e2f6c6f7373150000c03f0a150a0e747261696e2f6163637572616379150000803e0a1a\
        0a13747261696e2f6c6561726e696e675f72617465156f12833ab2940d31720000000000000025053a820900000000000000\
        4010022a650a110a0a747261696e2f6c6f737315000000000a150a0e747261696e2f6163637572616379150000803f0a1a0a\
        13747261696e2f6c6561726e696e675f72617465156f12033a0a1d0a16746573742f62616c616e6365645f61636375726163\
        79150000403f4106e359";

    fn row(epoch: u32, learning_rate: f64, train_loss: f64, train_accuracy: f64) -> Epoch {
        Epoch { epoch, steps: 0, images: 0, learning_rate, train_loss, train_accuracy }
    }

    #[test]
    fn the_bytes_are_those_that_tensorboard_writes() {
        let epochs = vec![row(1, 1e-3, 1.5, 0.25), row(2, 5e-4, 0.0, 1.0)];
        let bytes = encode(&Curve { epochs: epochs.clone(), balanced_accuracy: Some(0.75) });
        assert_eq!(bytes.iter().map(|b| format!("{b:02x}")).collect::<String>(), EXPECTED);
        // A further epoch is only appended.
        let first = encode(&Curve { epochs: epochs[..1].to_vec(), balanced_accuracy: None });
        assert!(bytes.starts_with(&first) && first.len() < bytes.len());
    }
}
