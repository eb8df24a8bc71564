/// A value of a pickle. What has parts is an index into `Pickle.nodes`, so that deep, shared and circular structures
/// cost no recursion and no copies.
enum PickleValue: Sendable, Hashable {
    case none
    case bool(Bool)
    case integer(Int)
    case number(Double)
    case text(String)
    case global(PickleGlobal)
    case node(Int)

    var integer: Int? {
        guard case .integer(let value) = self else { return nil }
        return value
    }

    var text: String? {
        guard case .text(let value) = self else { return nil }
        return value
    }
}

enum PickleNode: Sendable {
    case tuple([PickleValue])
    case list([PickleValue])
    /// A dict or OrderedDict: pairs as they were set, the last of a key counts.
    case dictionary([(key: PickleValue, value: PickleValue)])
    case storage(TorchStorage)
    case tensor(TorchTensor)
    /// Something known to be harmless that nobody here reads: a random generator's state, a dtype, a size.
    case inert
}

/// What a pickle says, after the machine has read it.
struct Pickle: Sendable {
    let root: PickleValue
    let nodes: [PickleNode]

    /// The entries of a dictionary with text keys, or nil when `value` is none.
    func dictionary(_ value: PickleValue) -> [String: PickleValue]? {
        guard case .node(let index) = value, case .dictionary(let pairs) = nodes[index] else { return nil }
        var result: [String: PickleValue] = [:]
        for (key, value) in pairs {
            if let name = key.text { result[name] = value }
        }
        return result
    }

    func tensor(_ value: PickleValue) -> TorchTensor? {
        guard case .node(let index) = value, case .tensor(let tensor) = nodes[index] else { return nil }
        return tensor
    }
}

/// The names of Python that a checkpoint may mention. A pickle calls them; this reader knows what the result is and
/// calls nothing. Every other name is refused.
enum PickleGlobal: Sendable, Hashable {
    case orderedDictionary
    case rebuildTensor
    case rebuildParameter
    case storage(TorchElement)
    /// Makes values without weights: sizes, dtypes, the states of generators that training scripts save.
    case inert

    init?(module: String, name: String) {
        switch (module, name) {
        case ("collections", "OrderedDict"): self = .orderedDictionary
        case ("torch._utils", "_rebuild_tensor_v2"): self = .rebuildTensor
        case ("torch._utils", "_rebuild_parameter"), ("torch.nn.parameter", "_rebuild_parameter"):
            self = .rebuildParameter
        case ("torch", _):
            if let element = TorchElement(rawValue: name) {
                self = .storage(element)
            } else if Self.inertTorchNames.contains(name) {
                self = .inert
            } else {
                return nil
            }
        default:
            guard Self.inertNames.contains("\(module).\(name)") else { return nil }
            self = .inert
        }
    }

    private static let inertTorchNames: Set<String> = [
        "Size", "device", "float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8",
        "bool",
    ]

    private static let inertNames: Set<String> = [
        "numpy.ndarray", "numpy.dtype", "numpy.core.multiarray._reconstruct", "numpy.core.multiarray.scalar",
        "numpy._core.multiarray._reconstruct", "numpy._core.multiarray.scalar", "_codecs.encode", "argparse.Namespace",
    ]
}
