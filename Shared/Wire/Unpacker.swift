import CProtobufC
import CWire
import Failure
import Tensor

/// Turns unpacked protobuf-c structs into values, trusting none of them; `Unpacker+*.swift` hold each group's messages.
///
/// protobuf-c checks the wire format only: counts, lengths, enums, UTF-8, shapes and missing sub-messages are checked
/// here. One unpacker reads one envelope, because it counts the fields that nobody knows.
final class Unpacker {
    private var unknownFields = 0

    /// Called with the base of every struct read: fields of a later minor version are allowed, a flood of them is not.
    func visit(_ base: ProtobufCMessage) throws(Failure) {
        unknownFields += Int(base.n_unknown_fields)
        guard unknownFields <= Limits.unknownFields else {
            throw Failure("malformed", "more than \(Limits.unknownFields) unknown fields in one message")
        }
    }

    func required<Struct>(_ pointer: UnsafeMutablePointer<Struct>?, _ field: String) throws(Failure) -> Struct {
        guard let pointer else { throw Failure("malformed", "\(field) is missing", field: field) }
        return pointer.pointee
    }

    func bytes(_ data: ProtobufCBinaryData) -> [UInt8] {
        Array(UnsafeBufferPointer(start: data.data, count: data.data == nil ? 0 : data.len))
    }

    func text(_ data: ProtobufCBinaryData, _ field: String, limit: Int = Limits.nameBytes) throws(Failure) -> String {
        try Bounds.check(bytes: data.len, limit: limit, field)
        let bytes = UnsafeBufferPointer(start: data.data, count: data.data == nil ? 0 : data.len)
        guard let text = String(validating: bytes, as: UTF8.self), !bytes.contains(0) else {
            throw Failure("malformed", "\(field) is not UTF-8 text", field: field)
        }
        return text
    }

    func prose(_ data: ProtobufCBinaryData, _ field: String) throws(Failure) -> String {
        try text(data, field, limit: Limits.messageBytes)
    }

    func list<Struct, Value>(
        _ count: Int, _ items: UnsafeMutablePointer<UnsafeMutablePointer<Struct>?>?, _ field: String, limit: Int,
        _ read: (Struct) throws(Failure) -> Value
    ) throws(Failure) -> [Value] {
        try Bounds.check(count: count, limit: limit, field)
        var values: [Value] = []
        values.reserveCapacity(count)
        for index in 0..<count { values.append(try read(required(items?[index], field))) }
        return values
    }

    func array<Packed, Value>(
        _ count: Int, _ items: UnsafeMutablePointer<Packed>?, _ field: String, limit: Int,
        _ read: (Packed) throws(Failure) -> Value
    ) throws(Failure) -> [Value] {
        try Bounds.check(count: count, limit: limit, field)
        guard count > 0 else { return [] }
        guard let items else { throw Failure("malformed", "\(field) is missing", field: field) }
        var values: [Value] = []
        values.reserveCapacity(count)
        for index in 0..<count { values.append(try read(items[index])) }
        return values
    }

    func texts(
        _ count: Int, _ items: UnsafeMutablePointer<ProtobufCBinaryData>?, _ field: String, limit: Int, textLimit: Int
    ) throws(Failure) -> [String] {
        try array(count, items, field, limit: limit) { (data) throws(Failure) in
            try text(data, field, limit: textLimit)
        }
    }

    /// An enum that Swift declares as well: 0 and undeclared numbers are refused.
    func checked<Value: RawRepresentable>(
        _ raw: some BinaryInteger, _ field: String, as type: Value.Type
    ) throws(Failure) -> Value where Value.RawValue == UInt32 {
        guard let number = UInt32(exactly: raw), let value = Value(rawValue: number) else {
            throw Failure("malformed", "\(field) has the undeclared value \(raw)", field: field)
        }
        return value
    }
}

// MARK: Values that several messages share

extension Unpacker {
    func empty(_ raw: Zoetrope__Empty, _ message: Message) throws(Failure) -> Message {
        try visit(raw.base)
        return message
    }

    func digest(_ data: ProtobufCBinaryData) throws(Failure) -> Digest {
        guard data.len == 32, let digest = Digest(bytes: bytes(data)) else {
            throw Failure("malformed", "a digest has \(data.len) bytes; it must have 32", field: "digest")
        }
        return digest
    }

    func location(_ raw: Zoetrope__Location) throws(Failure) -> Location {
        try visit(raw.base)
        switch raw.kind_case {
        case ZOETROPE__LOCATION__KIND_TCP:
            let tcp = try required(raw.tcp, "location.tcp")
            try visit(tcp.base)
            let address = try text(tcp.address, "location.address")
            try Bounds.check(address: address, port: Int(tcp.port), "location")
            guard tcp.key.len > 0 else { return .tcp(address: address, port: UInt16(tcp.port)) }
            return .curve(
                address: address, port: UInt16(tcp.port), key: try publicKey(tcp.key, "location.key"))
        case ZOETROPE__LOCATION__KIND_IPC:
            let ipc = try required(raw.ipc, "location.ipc")
            try visit(ipc.base)
            let socket = try text(ipc.socket, "location.socket")
            try Bounds.check(socket: socket, "location")
            return .ipc(host: try text(ipc.host, "location.host"), socket: socket)
        default:
            throw Failure("malformed", "a location of a kind that is not known here", field: "location")
        }
    }

    func tensorRef(_ raw: Zoetrope__TensorRef) throws(Failure) -> TensorRef {
        try visit(raw.base)
        let dtype = try checked(raw.dtype, "tensor.dtype", as: DType.self)
        let shape = try array(raw.n_shape, raw.shape, "tensor.shape", limit: Limits.tensorRank) {
            (extent) throws(Failure) in
            guard let value = Int(exactly: extent) else {
                throw Failure("malformed", "a tensor extent of \(extent)", field: "tensor.shape")
            }
            return value
        }
        let byteCount = try Bounds.byteCount(shape: shape, dtype: dtype, "tensor")
        guard raw.byte_count == UInt64(byteCount) else {
            throw Failure(
                "malformed",
                "a tensor of shape \(shape) and type \(dtype) has \(byteCount) bytes, not \(raw.byte_count)",
                field: "tensor.byte_count")
        }
        return TensorRef(
            digest: try digest(raw.digest), dtype: dtype, shape: shape,
            locations: try list(
                raw.n_locations, raw.locations, "tensor.locations", limit: Limits.locations, location))
    }

    func namedRef(_ raw: Zoetrope__NamedRef) throws(Failure) -> NamedRef {
        try visit(raw.base)
        return NamedRef(name: try text(raw.name, "tensor.name"), ref: try tensorRef(required(raw.ref, "tensor.ref")))
    }

    func taskID(_ raw: Zoetrope__TaskID) throws(Failure) -> TaskID {
        try visit(raw.base)
        return TaskID(job: try text(raw.job, "task.job"), name: try text(raw.name, "task.name"))
    }

    func lease(_ raw: Zoetrope__Lease) throws(Failure) -> Lease {
        try visit(raw.base)
        return Lease(task: try taskID(required(raw.task, "lease.task")), fence: raw.fence)
    }

    func capability(_ raw: Zoetrope__Capability) throws(Failure) -> Capability {
        try visit(raw.base)
        return Capability(
            stage: try text(raw.stage, "capability.stage"), model: try text(raw.model, "capability.model"))
    }
}
