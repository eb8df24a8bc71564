import Crypto
import Failure
import Tensor

/// Writes one converted network, a tensor at a time, so that memory holds no more than one.
struct SATWeightWriter {
    private static let stem = "diffusion_pytorch_model"

    let component: SATComponent
    /// Nil keeps each tensor's own type.
    let dtype: DType?
    /// The largest file, in bytes, unless one tensor alone is larger.
    let shardByteCount: Int
    let verifiesChecksums: Bool

    /// What will be written, in order.
    let descriptions: [TensorDescription]
    var byteCount: Int { descriptions.reduce(0) { $0 + $1.byteCount } }

    /// Fails with `torch_dtype_unsupported` when a tensor is not floating point.
    init(
        component: SATComponent, dtype: DType?, shardByteCount: Int, verifiesChecksums: Bool
    ) throws(Failure) {
        self.component = component
        self.dtype = dtype
        self.shardByteCount = shardByteCount
        self.verifiesChecksums = verifiesChecksums
        var descriptions: [TensorDescription] = []
        for piece in component.pieces {
            guard let own = component.file.dtype(piece.source), own.isFloatingPoint,
                let shape = component.shapes[piece.name]
            else {
                throw Failure(
                    "torch_dtype_unsupported",
                    "\(component.file.label): \(piece.source) is not float32, float16 or bfloat16.",
                    field: piece.source, remedy: "Convert it and save the state_dict again.")
            }
            descriptions.append(TensorDescription(name: piece.name, dtype: dtype ?? own, shape: shape))
        }
        self.descriptions = descriptions
    }

    /// Writes the files into `folder` and returns the SHA-256 of each, by name; `wrote` is told the bytes as they go.
    ///
    /// Failures: `unwritable_file`, `torch_file_checksum`, `tensor_not_finite` and those of `TorchFile.tensor`.
    func write(to folder: String, wrote: (Int) -> Void) throws(Failure) -> [String: String] {
        let shards = shards()
        var seen: Set<String> = []
        var digests: [String: String] = [:]
        var placement: [(String, JSONValue)] = []
        for (number, shard) in shards.enumerated() {
            let name = Self.name(number, of: shards.count)
            var hasher = SHA256()
            let tensors = Array(descriptions[shard])
            try SafetensorsWriter.write(tensors, metadata: ["format": "pt"], to: "\(folder)/\(name)") { bytes in
                hasher.update(bufferPointer: bytes)
            } tensor: { index throws(Failure) in
                wrote(tensors[index].byteCount)
                return try tensor(shard.lowerBound + index, seen: &seen)
            }
            digests[name] = hasher.finalize().hexadecimal
            placement += tensors.map { ($0.name, .string(name)) }
        }
        if shards.count > 1 {
            let index = ConfigDocument([
                ("metadata", .object(["total_size": .integer(byteCount)])),
                ("weight_map", .object(Dictionary(uniqueKeysWithValues: placement))),
            ])
            let name = "\(Self.stem).safetensors.index.json"
            try ModelFileSystem.write(index.text, to: "\(folder)/\(name)")
            digests[name] = try DigestCache.hash("\(folder)/\(name)")
        }
        return digests
    }

    private func tensor(_ index: Int, seen: inout Set<String>) throws(Failure) -> Tensor {
        let piece = component.pieces[index]
        if verifiesChecksums { try component.file.verify(piece.source, seen: &seen) }
        let source = try component.file.tensor(piece.source)
        let result = piece.tensor(from: source).converted(to: descriptions[index].dtype)
        guard result.firstNonFinite() == nil else {
            throw Failure(
                "tensor_not_finite",
                "\(component.file.label): \(piece.source) is not finite as "
                    + "\(descriptions[index].dtype.safetensorsName).", field: piece.source,
                remedy: "The file is damaged, or its values need another --dtype.")
        }
        source.dropMappedPages()
        return result
    }

    private func shards() -> [Range<Int>] {
        var shards: [Range<Int>] = []
        var start = 0, bytes = 0
        for (index, description) in descriptions.enumerated() {
            if index > start, bytes + description.byteCount > shardByteCount {
                shards.append(start..<index)
                (start, bytes) = (index, 0)
            }
            bytes += description.byteCount
        }
        return shards + [start..<descriptions.count]
    }

    private static func name(_ number: Int, of count: Int) -> String {
        if count == 1 { return "\(stem).safetensors" }
        func digits(_ value: Int) -> String { String(repeating: "0", count: max(0, 5 - "\(value)".count)) + "\(value)" }
        return "\(stem)-\(digits(number + 1))-of-\(digits(count)).safetensors"
    }
}
