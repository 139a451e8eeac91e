//! Networks and classical classifiers as ONNX graphs (operator sets 17, and 3 of `ai.onnx.ml`), for other programs.
//!
//! The messages are those parts of onnx.proto (version 8 of the format) that the graphs need.

use super::model::Array;
use crate::batch::{Normalisation, Normalise};
use prost::Message;
use std::collections::BTreeMap;

/// Types of numbers.
pub(crate) const FLOAT: i32 = 1;
const UINT8: i32 = 2;
const INT64: i32 = 7;
pub(crate) const DOUBLE: i32 = 11;
/// The domain of operators for classical classifiers.
const ML: &str = "ai.onnx.ml";

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
    #[prost(string, tag = "7")]
    domain: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AttributeProto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(float, tag = "2")]
    f: f32,
    #[prost(int64, tag = "3")]
    i: i64,
    #[prost(bytes = "vec", tag = "4")]
    s: Vec<u8>,
    #[prost(float, repeated, tag = "7")]
    floats: Vec<f32>,
    #[prost(int64, repeated, tag = "8")]
    ints: Vec<i64>,
    #[prost(bytes = "vec", repeated, tag = "9")]
    strings: Vec<Vec<u8>>,
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

pub(crate) fn ints(name: &str, ints: &[usize]) -> AttributeProto {
    let ints = ints.iter().map(|i| *i as i64).collect();
    AttributeProto { name: name.into(), ints, kind: 7, ..Default::default() }
}

pub(crate) fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i, kind: 2, ..Default::default() }
}

fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: name.into(), f, kind: 1, ..Default::default() }
}

pub(crate) fn floats(name: &str, values: impl IntoIterator<Item = f64>) -> AttributeProto {
    let floats = values.into_iter().map(|v| v as f32).collect();
    AttributeProto { name: name.into(), floats, kind: 6, ..Default::default() }
}

pub(crate) fn string(name: &str, s: &str) -> AttributeProto {
    AttributeProto { name: name.into(), s: s.into(), kind: 3, ..Default::default() }
}

pub(crate) fn strings(name: &str, strings: impl IntoIterator<Item = &'static str>) -> AttributeProto {
    let strings = strings.into_iter().map(|s| s.as_bytes().to_vec()).collect();
    AttributeProto { name: name.into(), strings, kind: 8, ..Default::default() }
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
    /// A graph of operators without arrays of PyTorch's.
    pub fn empty() -> Self {
        Self { arrays: BTreeMap::new(), nodes: Vec::new(), initializers: Vec::new() }
    }

    /// Adds an operator with one result.
    pub fn node(&mut self, op: &str, inputs: &[&str], attribute: Vec<AttributeProto>) -> String {
        self.add_node("", op, inputs, 1, attribute)
    }

    /// Adds an operator, and returns its last result. `outputs` is how many it has.
    pub fn last_of(&mut self, op: &str, inputs: &[&str], outputs: usize, attribute: Vec<AttributeProto>) -> String {
        self.add_node("", op, inputs, outputs, attribute)
    }

    /// Adds a classifier of `ai.onnx.ml`, and returns its scores.
    pub fn classifier(&mut self, op: &str, x: &str, attribute: Vec<AttributeProto>) -> String {
        self.add_node(ML, op, &[x], 2, attribute)
    }

    fn add_node(
        &mut self,
        domain: &str,
        op: &str,
        inputs: &[&str],
        outputs: usize,
        attribute: Vec<AttributeProto>,
    ) -> String {
        let name = format!("{}_{}", op.to_lowercase(), self.nodes.len());
        let others = (1..outputs).map(|i| format!("{name}_{i}"));
        self.nodes.push(NodeProto {
            input: inputs.iter().map(ToString::to_string).collect(),
            output: others.chain([name.clone()]).collect(),
            name: name.clone(),
            op_type: op.into(),
            attribute,
            domain: domain.into(),
        });
        name
    }

    /// Adds numbers of double precision.
    pub fn doubles(&mut self, name: &str, dims: &[usize], values: &[f64]) -> String {
        let raw_data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.initializer(name, dims, DOUBLE, raw_data)
    }

    /// Adds whole numbers.
    pub fn whole(&mut self, name: &str, values: &[usize]) -> String {
        let raw_data = values.iter().flat_map(|v| (*v as i64).to_le_bytes()).collect();
        self.initializer(name, &[values.len()], INT64, raw_data)
    }

    fn initializer(&mut self, name: &str, dims: &[usize], data_type: i32, raw_data: Vec<u8>) -> String {
        let dims = dims.iter().map(|d| *d as i64).collect();
        self.initializers.push(TensorProto { dims, data_type, name: name.into(), raw_data });
        name.into()
    }

    fn constant(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        let raw_data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.initializer(name, dims, FLOAT, raw_data)
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
    let input = value("images", UINT8, &[size_px, size_px, 3]);
    graph.finish(input, &[(logits, "logits"), (probabilities, "probabilities")], classes, name, properties)
}

/// The bytes of an ONNX file of a classical classifier. Its input `features` is f32, `[n, features]`, where NaN is a
/// feature that is not defined; its output `probabilities` is `[n, classes]`. `graph` computes the result named
/// `probabilities` from `features`.
pub(crate) fn encode_classifier(
    graph: Graph,
    probabilities: String,
    (features, classes): (usize, usize),
    name: &str,
    properties: &[(&str, String)],
) -> Vec<u8> {
    let input = value("features", FLOAT, &[features]);
    graph.finish(input, &[(probabilities, "probabilities")], classes, name, properties)
}

impl Graph {
    /// The bytes of the file. `outputs` are results with their names in the file, each `[n, classes]`.
    fn finish(
        mut self,
        input: ValueInfo,
        outputs: &[(String, &str)],
        classes: usize,
        name: &str,
        properties: &[(&str, String)],
    ) -> Vec<u8> {
        for (node, name) in outputs {
            let names = self.nodes.iter_mut().flat_map(|n| n.input.iter_mut().chain(&mut n.output));
            names.filter(|n| *n == node).for_each(|n| *n = name.to_string());
        }
        let operators = [("", 17), (ML, 3)];
        let is_used = |domain: &str| domain.is_empty() || self.nodes.iter().any(|node| node.domain == domain);
        let used = operators.into_iter().filter(|(domain, _)| is_used(domain));
        let opset_import = used.map(|(domain, version)| OperatorSet { domain: domain.into(), version }).collect();
        let proto = ModelProto {
            ir_version: 8,
            producer_name: "wbc".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            doc_string: "For research use, not for diagnosis.".into(),
            graph: Some(GraphProto {
                node: self.nodes,
                name: name.into(),
                initializer: self.initializers,
                input: vec![input],
                output: outputs.iter().map(|(_, name)| value(name, FLOAT, &[classes])).collect(),
            }),
            opset_import,
            metadata_props: properties.iter().map(|(k, v)| KeyValue { key: k.to_string(), value: v.clone() }).collect(),
        };
        proto.encode_to_vec()
    }
}
