//! Networks as ONNX graphs (operator set 17), for other programs.
//!
//! The messages are those parts of onnx.proto (version 8 of the format) that the graphs need.

use super::model::Array;
use crate::batch::{Normalisation, Normalise};
use prost::Message;
use std::collections::BTreeMap;

const FLOAT: i32 = 1;
const UINT8: i32 = 2;

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(int64, tag = "1")]
    ir_version: i64,
    #[prost(string, tag = "2")]
    producer_name: String,
    #[prost(string, tag = "3")]
    producer_version: String,
    #[prost(string, tag = "6")]
    doc_string: String,
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "8")]
    opset_import: Vec<OperatorSet>,
    #[prost(message, repeated, tag = "14")]
    metadata_props: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct OperatorSet {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(int64, tag = "2")]
    version: i64,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    node: Vec<NodeProto>,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<ValueInfo>,
}

#[derive(Clone, PartialEq, Message)]
struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    op_type: String,
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<AttributeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct AttributeProto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(float, tag = "2")]
    f: f32,
    #[prost(int64, tag = "3")]
    i: i64,
    #[prost(int64, repeated, tag = "8")]
    ints: Vec<i64>,
    #[prost(int32, tag = "20")]
    kind: i32,
}

#[derive(Clone, PartialEq, Message)]
struct TensorProto {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "vec", tag = "9")]
    raw_data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct ValueInfo {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    kind: Option<TypeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TypeProto {
    #[prost(message, optional, tag = "1")]
    tensor: Option<TensorType>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorType {
    #[prost(int32, tag = "1")]
    elem_type: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<TensorShape>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorShape {
    #[prost(message, repeated, tag = "1")]
    dim: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
struct Dimension {
    #[prost(oneof = "Size", tags = "1, 2")]
    size: Option<Size>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Size {
    #[prost(int64, tag = "1")]
    Value(i64),
    #[prost(string, tag = "2")]
    Name(String),
}

fn ints(name: &str, ints: &[usize]) -> AttributeProto {
    let ints = ints.iter().map(|i| *i as i64).collect();
    AttributeProto { name: name.into(), ints, kind: 7, ..Default::default() }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i, kind: 2, ..Default::default() }
}

fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: name.into(), f, kind: 1, ..Default::default() }
}

fn value(name: &str, elem_type: i32, rest: &[usize]) -> ValueInfo {
    let first = Dimension { size: Some(Size::Name("n".into())) };
    let dim =
        std::iter::once(first).chain(rest.iter().map(|d| Dimension { size: Some(Size::Value(*d as i64)) })).collect();
    let tensor = TensorType { elem_type, shape: Some(TensorShape { dim }) };
    ValueInfo { name: name.into(), kind: Some(TypeProto { tensor: Some(tensor) }) }
}

/// Builds a graph: every method adds a node and returns the name of its result. Arrays are PyTorch's, by name;
/// activations are `[n, c, h, w]`.
pub(crate) struct Graph {
    arrays: BTreeMap<String, Array>,
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
}

impl Graph {
    fn node(&mut self, op: &str, inputs: &[&str], attribute: Vec<AttributeProto>) -> String {
        let name = format!("{}_{}", op.to_lowercase(), self.nodes.len());
        self.nodes.push(NodeProto {
            input: inputs.iter().map(ToString::to_string).collect(),
            output: vec![name.clone()],
            name: name.clone(),
            op_type: op.into(),
            attribute,
        });
        name
    }

    fn constant(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        let dims = dims.iter().map(|d| *d as i64).collect();
        let raw_data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.initializers.push(TensorProto { dims, data_type: FLOAT, name: name.into(), raw_data });
        name.into()
    }

    fn array(&mut self, name: &str) -> String {
        let (shape, values) = self.arrays.remove(name).unwrap_or_else(|| panic!("the network has no array {name}"));
        self.constant(name, &shape, &values)
    }

    /// A convolution, padded by half its kernel with zeros; with a bias, if there is an array for it.
    pub fn convolution(&mut self, x: &str, name: &str, stride: usize) -> String {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let kernel = self.arrays[&weight].0[2];
        let pad = kernel / 2;
        let mut inputs = vec![x.to_string(), self.array(&weight)];
        if self.arrays.contains_key(&bias) {
            inputs.push(self.array(&bias));
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let attributes =
            vec![ints("kernel_shape", &[kernel; 2]), ints("strides", &[stride; 2]), ints("pads", &[pad; 4])];
        self.node("Conv", &inputs, attributes)
    }

    /// A batch normalisation by the running mean and variance.
    pub fn batch_norm(&mut self, x: &str, name: &str, epsilon: f32) -> String {
        let arrays =
            ["weight", "bias", "running_mean", "running_var"].map(|what| self.array(&format!("{name}.{what}")));
        let [gamma, beta, mean, variance] = &arrays;
        self.node("BatchNormalization", &[x, gamma, beta, mean, variance], vec![float("epsilon", epsilon)])
    }

    pub fn relu(&mut self, x: &str) -> String {
        self.node("Relu", &[x], Vec::new())
    }

    pub fn add(&mut self, a: &str, b: &str) -> String {
        self.node("Add", &[a, b], Vec::new())
    }

    pub fn max_pool(&mut self, x: &str, kernel: usize, stride: usize, pad: usize) -> String {
        let attributes =
            vec![ints("kernel_shape", &[kernel; 2]), ints("strides", &[stride; 2]), ints("pads", &[pad; 4])];
        self.node("MaxPool", &[x], attributes)
    }

    /// The mean over the pixels of each image.
    pub fn mean_pool(&mut self, x: &str) -> String {
        self.node("GlobalAveragePool", &[x], Vec::new())
    }

    /// `[n, c, h, w]` → `[n, c * h * w]`.
    pub fn flatten(&mut self, x: &str) -> String {
        self.node("Flatten", &[x], vec![int("axis", 1)])
    }

    pub fn linear(&mut self, x: &str, name: &str) -> String {
        let (weight, bias) = (self.array(&format!("{name}.weight")), self.array(&format!("{name}.bias")));
        self.node("Gemm", &[x, &weight, &bias], vec![int("transB", 1)])
    }

    /// Images `[n, h, w, 3]` from 0 to 255 → normalised images `[n, 3, h, w]`.
    fn images(&mut self, input: &str, normalise: &Normalise) -> String {
        let x = self.node("Cast", &[input], vec![int("to", FLOAT.into())]);
        let x = self.node("Transpose", &[&x], vec![ints("perm", &[0, 3, 1, 2])]);
        if normalise.kind != Normalisation::Image {
            let mean = self.constant("normalise.mean", &[1, 3, 1, 1], &normalise.mean);
            let deviation = self.constant("normalise.deviation", &[1, 3, 1, 1], &normalise.deviation);
            let centred = self.node("Sub", &[&x, &mean], Vec::new());
            return self.node("Div", &[&centred, &deviation], Vec::new());
        }
        let axes = || vec![ints("axes", &[1, 2, 3]), int("keepdims", 1)];
        let mean = self.node("ReduceMean", &[&x], axes());
        let centred = self.node("Sub", &[&x, &mean], Vec::new());
        let square = self.node("Mul", &[&centred, &centred], Vec::new());
        let variance = self.node("ReduceMean", &[&square], axes());
        let least = self.constant("normalise.least", &[1], &[1.0]);
        let variance = self.node("Max", &[&variance, &least], Vec::new());
        let deviation = self.node("Sqrt", &[&variance], Vec::new());
        self.node("Div", &[&centred, &deviation], Vec::new())
    }
}

/// The bytes of an ONNX file. Its input `images` is RGB, u8, `[n, size_px, size_px, 3]`; its outputs `logits` and
/// `probabilities` are `[n, classes]`. `layers` adds the network from normalised images to logits; `properties` become
/// metadata.
pub(crate) fn encode(
    arrays: BTreeMap<String, Array>,
    size_px: usize,
    classes: usize,
    normalise: &Normalise,
    layers: impl FnOnce(&mut Graph, &str) -> String,
    name: &str,
    properties: &[(&str, String)],
) -> Vec<u8> {
    let mut graph = Graph { arrays, nodes: Vec::new(), initializers: Vec::new() };
    let x = graph.images("images", normalise);
    let logits = layers(&mut graph, &x);
    let unused: Vec<&String> = graph.arrays.keys().collect();
    assert!(unused.is_empty(), "no layer uses the arrays {unused:?}");
    let probabilities = graph.node("Softmax", &[&logits], vec![int("axis", 1)]);
    for (node, name) in [(logits, "logits"), (probabilities, "probabilities")] {
        let names = graph.nodes.iter_mut().flat_map(|n| n.input.iter_mut().chain(&mut n.output));
        names.filter(|n| **n == node).for_each(|n| *n = name.into());
    }
    let proto = ModelProto {
        ir_version: 8,
        producer_name: "wbc".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        doc_string: "For research use, not for diagnosis.".into(),
        graph: Some(GraphProto {
            node: graph.nodes,
            name: name.into(),
            initializer: graph.initializers,
            input: vec![value("images", UINT8, &[size_px, size_px, 3])],
            output: ["logits", "probabilities"].map(|name| value(name, FLOAT, &[classes])).into(),
        }),
        opset_import: vec![OperatorSet { domain: String::new(), version: 17 }],
        metadata_props: properties.iter().map(|(k, v)| KeyValue { key: k.to_string(), value: v.clone() }).collect(),
    };
    proto.encode_to_vec()
}
