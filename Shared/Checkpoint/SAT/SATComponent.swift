import Failure
import Tensor

/// One network of a SAT checkpoint: its file, and what its keys become.
struct SATComponent: Sendable {
    let component: Component
    let file: TorchFile
    /// Sorted by name.
    var pieces: [SATPiece]
    /// Keys of the file that have no place in the diffusers layout.
    let dropped: [String]
    /// Shapes by diffusers' key.
    private(set) var shapes: [String: [Int]]

    /// Opens a transformer's or an autoencoder's file. Failures: those of `TorchFile`, `sat_key_unknown`,
    /// `torch_tensor_invalid`.
    init(_ component: Component, path: String) throws(Failure) {
        self.component = component
        file = try TorchFile(path: path)
        let levels = SATAutoencoderKeys.levels(file.names) ?? 0
        var pieces: [SATPiece] = []
        var dropped: [String] = []
        var unknown: [String] = []
        for name in file.names {
            let key =
                component == .vae ? SATAutoencoderKeys.key(name, levels: levels) : SATTransformerKeys.key(name)
            switch key {
            case .becomes(let made): pieces += made
            case .dropped: dropped.append(name)
            case .unknown: unknown.append(name)
            }
        }
        guard unknown.isEmpty else { throw Self.unknown(unknown, in: path, component: component) }
        guard !pieces.isEmpty else {
            throw Failure(
                "state_dict_missing", "\(path) holds no weights of a SAT \(component.rawValue).", field: path,
                remedy: "A transformer lies in mp_rank_00_model_states.pt, an autoencoder in 3d-vae.pt.")
        }
        var shapes: [String: [Int]] = [:]
        for piece in pieces {
            guard let source = file.shape(piece.source), let shape = piece.shape(from: source) else {
                throw Failure(
                    "torch_tensor_invalid",
                    "\(path): \(piece.source) of shape \(file.shape(piece.source) ?? []) does not divide into "
                        + "\(piece.partCount) parts.", field: piece.source,
                    remedy: "The file is of another model, or damaged.")
            }
            guard shapes.updateValue(shape, forKey: piece.name) == nil else {
                throw Failure(
                    "sat_key_unknown", "\(path): two keys become \(piece.name), the second is \(piece.source).",
                    field: piece.source, remedy: "Save the state_dict of one model alone.")
            }
        }
        self.shapes = shapes
        self.pieces = pieces.sorted { $0.name < $1.name }
        self.dropped = dropped
    }

    /// Leaves out a tensor that the diffusers layout computes.
    mutating func drop(_ name: String) {
        pieces.removeAll { $0.name == name }
        shapes[name] = nil
    }

    /// Gives a tensor another shape of as many elements.
    mutating func reshape(_ name: String, _ shape: [Int]) {
        for index in pieces.indices where pieces[index].name == name { pieces[index].shape = shape }
        shapes[name] = shape
    }

    private static func unknown(_ keys: [String], in path: String, component: Component) -> Failure {
        let shown = keys.prefix(6).joined(separator: ", ")
        let more = keys.count > 6 ? " and \(keys.count - 6) more" : ""
        let isAdapted = keys.contains { $0.contains("matrix_A") || $0.contains("matrix_B") }
        return Failure(
            "sat_key_unknown", "\(path) has keys that no SAT \(component.rawValue) has: \(shown)\(more).",
            field: keys.first,
            remedy: isAdapted
                ? "These are LoRA weights: use the file as an adapter on a converted base model."
                : "Name a SAT checkpoint; other formats are not converted.")
    }
}
