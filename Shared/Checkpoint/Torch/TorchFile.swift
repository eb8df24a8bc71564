package import Failure
package import Tensor

/// A state dict in a file of `torch.save` (the ZIP format, torch 1.6 and later), mapped and not copied.
///
/// Only tensors are read: the pickle is interpreted by `PickleMachine`, which executes nothing. Thread-safe: nothing
/// changes after `init`.
package struct TorchFile: Sendable {
    /// The path, for messages.
    package let label: String
    /// Names of the state dict's tensors, sorted.
    package let names: [String]
    private let archive: ZipArchive
    private let prefix: String
    private let tensors: [String: TorchTensor]

    /// Maps the file and reads its pickle. `module`, `model` and `state_dict` around the state dict are unwrapped.
    ///
    /// Failures: `unreadable_file`, `torch_file_invalid`, `torch_file_legacy`, `torch_file_checksum`,
    /// `state_dict_missing`, and those of `PickleMachine`.
    package init(path: String) throws(Failure) {
        let storage = try MappedFile.storage(path: path)
        let bytes = Tensor(storage: storage, shape: [storage.byteCount], dtype: .uint8)
        try self.init(bytes: bytes, label: path)
    }

    /// The same for a file in memory, a uint8 tensor.
    package init(bytes: Tensor, label: String) throws(Failure) {
        self.label = label
        try Self.refuseOtherKinds(bytes, label: label)
        archive = try ZipArchive(bytes: bytes, label: label)
        let pickles = archive.entries.keys.filter { $0.hasSuffix("/data.pkl") }
        guard let name = pickles.first, pickles.count == 1, let entry = archive.entries[name] else {
            throw Self.invalid(label, "it has \(pickles.count) entries data.pkl, and should have one")
        }
        prefix = String(name.dropLast("data.pkl".count))
        if let order = archive.entries["\(prefix)byteorder"] {
            let text = archive.content(order).withUnsafeBytes { String(decoding: $0.prefix(16), as: UTF8.self) }
            guard text == "little" else { throw Self.invalid(label, "its byte order is \(text)") }
        }
        guard entry.range.count <= PickleMachine.largestPickle else {
            throw Failure(
                "pickle_too_large", "\(label): its pickle has \(entry.range.count) bytes.", field: label,
                remedy: "Save only the model's state_dict.")
        }
        try archive.verify(name)
        let pickle = try PickleMachine.read(archive.content(entry).withUnsafeBytes(Array.init), label: label)
        tensors = try Self.stateDictionary(pickle, label: label)
        names = tensors.keys.sorted()
    }

    package func contains(_ name: String) -> Bool { tensors[name] != nil }

    /// Shape of a tensor without touching its bytes, or nil when the file has no such name.
    package func shape(_ name: String) -> [Int]? { tensors[name]?.shape }

    /// Element type of a tensor, or nil when there is none of that name, or of a type that no weights have.
    package func dtype(_ name: String) -> DType? { tensors[name]?.storage.element.dtype }

    /// The tensor: a view of the mapped file where it lies there in row-major order, and a copy otherwise.
    /// Failures: `missing_tensor`, `torch_dtype_unsupported`, `torch_tensor_invalid`.
    package func tensor(_ name: String) throws(Failure) -> Tensor {
        guard let tensor = tensors[name] else {
            throw Failure("missing_tensor", "\(label) has no tensor \"\(name)\".", field: name)
        }
        guard let dtype = tensor.storage.element.dtype else {
            throw Failure(
                "torch_dtype_unsupported", "\(label): \(name) is a \(tensor.storage.element.rawValue) tensor.",
                field: name, remedy: "Convert it to float32, float16 or bfloat16 and save it again.")
        }
        guard let entry = archive.entries[entryName(tensor)],
            tensor.storage.count <= entry.range.count / dtype.byteCount
        else {
            throw Failure(
                "torch_tensor_invalid",
                "\(label): \(name) lies in \(entryName(tensor)), which is missing or shorter than "
                    + "\(tensor.storage.count) elements.",
                field: name, remedy: "The file is damaged; fetch it again.")
        }
        let content = archive.content(entry)
        let offset = content.byteOffset + tensor.offset * dtype.byteCount
        if tensor.isContiguous {
            let view = Tensor(storage: content.storage, byteOffset: offset, shape: tensor.shape, dtype: dtype)
            let isAligned = UInt(bitPattern: view.readAddress) % UInt(dtype.byteCount) == 0
            return isAligned ? view : view.copied()
        }
        return Self.gather(tensor, from: content, dtype: dtype)
    }

    /// Compares the bytes under a tensor with the archive's checksum, once for each storage in `seen`.
    /// Failure: `torch_file_checksum`.
    package func verify(_ name: String, seen: inout Set<String>) throws(Failure) {
        guard let tensor = tensors[name], seen.insert(tensor.storage.key).inserted else { return }
        try archive.verify(entryName(tensor))
    }

    // MARK: Parts

    private func entryName(_ tensor: TorchTensor) -> String { "\(prefix)data/\(tensor.storage.key)" }

    /// Copies a strided view into row-major order.
    private static func gather(_ tensor: TorchTensor, from content: Tensor, dtype: DType) -> Tensor {
        var result = Tensor(uninitialized: tensor.shape, dtype: dtype)
        let size = dtype.byteCount, count = tensor.count
        result.withUnsafeMutableBytes { target in
            content.withUnsafeBytes { source in
                var index = [Int](repeating: 0, count: tensor.shape.count)
                var from = tensor.offset
                for to in 0..<count {
                    for byte in 0..<size { target[to * size + byte] = source[from * size + byte] }
                    var axis = index.count - 1
                    while axis >= 0 {
                        index[axis] += 1
                        from += tensor.strides[axis]
                        if index[axis] < tensor.shape[axis] { break }
                        from -= tensor.strides[axis] * tensor.shape[axis]
                        index[axis] = 0
                        axis -= 1
                    }
                }
            }
        }
        return result
    }

    /// The dictionary of tensors inside the wrappers that SAT, DeepSpeed and Lightning put around it.
    private static func stateDictionary(_ pickle: Pickle, label: String) throws(Failure) -> [String: TorchTensor] {
        var entries = pickle.dictionary(pickle.root) ?? [:]
        for wrapper in ["model", "module", "state_dict"] {
            if let inner = entries[wrapper].flatMap(pickle.dictionary) { entries = inner }
        }
        let tensors = entries.compactMapValues(pickle.tensor)
        guard !tensors.isEmpty else {
            throw Failure(
                "state_dict_missing", "\(label) holds no state dict: no tensor has a name in it.", field: label,
                remedy: "Name the file with the model's weights, such as mp_rank_00_model_states.pt.")
        }
        return tensors
    }

    private static func refuseOtherKinds(_ bytes: Tensor, label: String) throws(Failure) {
        let start = bytes.withUnsafeBytes { Array($0.prefix(32)) }
        if start.starts(with: Array("version https://git-lfs".utf8)) {
            throw Failure(
                "torch_file_invalid", "\(label) is a Git LFS pointer, not the weights.", field: label,
                remedy: "Run git lfs pull in the checkpoint folder.")
        }
        // A pickle of its own, followed by raw storages: what torch.save wrote before version 1.6.
        if start.first == 0x80 {
            throw Failure(
                "torch_file_legacy", "\(label) has the format of torch before 1.6.", field: label,
                remedy: "Load it once with torch.load(…, weights_only=True) and save it with torch.save.")
        }
    }

    private static func invalid(_ label: String, _ what: String) -> Failure {
        Failure(
            "torch_file_invalid", "\(label) is no whole torch.save file: \(what).", field: label,
            remedy: "Fetch the file again and compare its digest with the source.")
    }
}
