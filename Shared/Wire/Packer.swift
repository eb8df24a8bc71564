import CProtobufC
import CWire
import Failure
import Tensor

/// Turns values into protobuf-c structs inside one arena; `Packer+*.swift` hold the messages of each group.
struct Packer {
    let arena: OpaquePointer

    private func allocate(_ byteCount: Int) throws(Failure) -> UnsafeMutableRawPointer {
        guard let memory = cw_arena_allocate(arena, byteCount) else {
            throw Failure(
                "too_large", "a message needs more than \(Limits.arenaBytes) bytes of structs", field: "envelope")
        }
        return memory
    }

    /// A struct that protobuf-c's own initialiser has prepared.
    func make<Struct>(
        _ initialise: (UnsafeMutablePointer<Struct>?) -> Void
    ) throws(Failure) -> UnsafeMutablePointer<Struct> {
        let pointer = try allocate(MemoryLayout<Struct>.stride).bindMemory(to: Struct.self, capacity: 1)
        initialise(pointer)
        return pointer
    }

    func bytes(_ bytes: some Collection<UInt8>) throws(Failure) -> ProtobufCBinaryData {
        let target = try allocate(bytes.count).bindMemory(to: UInt8.self, capacity: bytes.count)
        _ = UnsafeMutableBufferPointer(start: target, count: bytes.count).initialize(from: bytes)
        return ProtobufCBinaryData(len: bytes.count, data: target)
    }

    /// Text that somebody acts on: too long or holding a NUL, it is refused.
    func text(_ text: String, _ field: String, limit: Int = Limits.nameBytes) throws(Failure) -> ProtobufCBinaryData {
        try Bounds.check(bytes: text.utf8.count, limit: limit, field)
        guard !text.utf8.contains(0) else { throw Failure("malformed", "\(field) holds a NUL character", field: field) }
        return try bytes(text.utf8)
    }

    /// Text for people: a report that something failed must arrive, so what is too long is cut.
    func prose(_ text: String) throws(Failure) -> ProtobufCBinaryData {
        var kept: [UInt8] = []
        for character in text.unicodeScalars {
            let encoded = character == "\0" ? Array("\u{fffd}".utf8) : Array(String(character).utf8)
            guard kept.count + encoded.count <= Limits.messageBytes else { break }
            kept += encoded
        }
        return try bytes(kept)
    }

    typealias List<Struct> = UnsafeMutablePointer<UnsafeMutablePointer<Struct>?>

    func list<Value, Struct>(
        _ values: [Value], _ field: String, limit: Int,
        _ pack: (Value) throws(Failure) -> UnsafeMutablePointer<Struct>
    ) throws(Failure) -> List<Struct> {
        try Bounds.check(count: values.count, limit: limit, field)
        let stride = MemoryLayout<UnsafeMutablePointer<Struct>?>.stride
        let list = try allocate(values.count * stride).bindMemory(
            to: UnsafeMutablePointer<Struct>?.self, capacity: values.count)
        for (index, value) in values.enumerated() {
            list.advanced(by: index).initialize(to: try pack(value))
        }
        return list
    }

    func array<Value, Packed>(
        _ values: [Value], _ field: String, limit: Int, _ pack: (Value) throws(Failure) -> Packed
    ) throws(Failure) -> UnsafeMutablePointer<Packed> {
        try Bounds.check(count: values.count, limit: limit, field)
        let array = try allocate(values.count * MemoryLayout<Packed>.stride).bindMemory(
            to: Packed.self, capacity: values.count)
        for (index, value) in values.enumerated() {
            array.advanced(by: index).initialize(to: try pack(value))
        }
        return array
    }
}

// MARK: Values that several messages share

extension Packer {
    func digest(_ digest: Digest) throws(Failure) -> ProtobufCBinaryData { try bytes(digest.bytes) }

    func location(_ location: Location) throws(Failure) -> UnsafeMutablePointer<Zoetrope__Location> {
        let result = try make(zoetrope__location__init)
        switch location {
        case .tcp(let address, let port):
            try Bounds.check(address: address, port: Int(port), "location")
            let tcp = try make(zoetrope__tcplocation__init)
            tcp.pointee.address = try text(address, "location.address")
            tcp.pointee.port = UInt32(port)
            result.pointee.kind_case = ZOETROPE__LOCATION__KIND_TCP
            result.pointee.tcp = tcp
        case .curve(let address, let port, let key):
            let keyed = try self.location(.tcp(address: address, port: port))
            keyed.pointee.tcp.pointee.key = try bytes(key.bytes)
            return keyed
        case .ipc(let host, let socket):
            try Bounds.check(socket: socket, "location")
            let ipc = try make(zoetrope__ipclocation__init)
            ipc.pointee.host = try text(host, "location.host")
            ipc.pointee.socket = try text(socket, "location.socket")
            result.pointee.kind_case = ZOETROPE__LOCATION__KIND_IPC
            result.pointee.ipc = ipc
        }
        return result
    }

    func tensorRef(_ ref: TensorRef) throws(Failure) -> UnsafeMutablePointer<Zoetrope__TensorRef> {
        let byteCount = try Bounds.byteCount(shape: ref.shape, dtype: ref.dtype, "tensor")
        let result = try make(zoetrope__tensor_ref__init)
        result.pointee.digest = try digest(ref.digest)
        result.pointee.dtype = ref.dtype.rawValue
        result.pointee.n_shape = ref.shape.count
        result.pointee.shape = try array(ref.shape, "tensor.shape", limit: Limits.tensorRank) {
            (extent) throws(Failure) in
            UInt64(extent)
        }
        result.pointee.byte_count = UInt64(byteCount)
        result.pointee.n_locations = ref.locations.count
        result.pointee.locations = try list(ref.locations, "tensor.locations", limit: Limits.locations, location)
        return result
    }

    func namedRef(_ named: NamedRef) throws(Failure) -> UnsafeMutablePointer<Zoetrope__NamedRef> {
        let result = try make(zoetrope__named_ref__init)
        result.pointee.name = try text(named.name, "tensor.name")
        result.pointee.ref = try tensorRef(named.ref)
        return result
    }

    func taskID(_ task: TaskID) throws(Failure) -> UnsafeMutablePointer<Zoetrope__TaskID> {
        let result = try make(zoetrope__task_id__init)
        result.pointee.job = try text(task.job, "task.job")
        result.pointee.name = try text(task.name, "task.name")
        return result
    }

    func lease(_ lease: Lease) throws(Failure) -> UnsafeMutablePointer<Zoetrope__Lease> {
        let result = try make(zoetrope__lease__init)
        result.pointee.task = try taskID(lease.task)
        result.pointee.fence = lease.fence
        return result
    }

    func capability(_ capability: Capability) throws(Failure) -> UnsafeMutablePointer<Zoetrope__Capability> {
        let result = try make(zoetrope__capability__init)
        result.pointee.stage = try text(capability.stage, "capability.stage")
        result.pointee.model = try text(capability.model, "capability.model")
        return result
    }

    func empty() throws(Failure) -> UnsafeMutablePointer<Zoetrope__Empty> { try make(zoetrope__empty__init) }

    /// At most `Limits.notes` notes: the rest is for people and goes first.
    func notes(_ notes: [String]) throws(Failure) -> (count: Int, list: UnsafeMutablePointer<ProtobufCBinaryData>) {
        let kept = Array(notes.prefix(Limits.notes))
        return (kept.count, try array(kept, "notes", limit: Limits.notes, prose))
    }
}
