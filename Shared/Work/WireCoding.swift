import Tensor
package import Wire

// The wire's values as the ledger stores them: Codable forms that stay readable in SQLite and stable across releases.

extension Digest: Codable {
    /// 64 hexadecimal characters.
    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        guard let digest = Digest(hexadecimal: try container.decode(String.self)) else {
            throw DecodingError.dataCorruptedError(
                in: container, debugDescription: "a digest has 64 hexadecimal digits")
        }
        self = digest
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}

extension SessionID: Codable {
    /// 32 hexadecimal characters.
    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let bytes = bytesFromHexadecimal(try container.decode(String.self)) ?? []
        guard let session = SessionID(bytes: bytes) else {
            throw DecodingError.dataCorruptedError(
                in: container, debugDescription: "a session has 32 hexadecimal digits")
        }
        self = session
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}

extension TaskID: Codable {
    private enum CodingKeys: String, CodingKey { case job, name }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        self.init(
            job: try container.decode(String.self, forKey: .job), name: try container.decode(String.self, forKey: .name)
        )
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(job, forKey: .job)
        try container.encode(name, forKey: .name)
    }
}

extension Lease: Codable {
    private enum CodingKeys: String, CodingKey { case task, fence }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        self.init(
            task: try container.decode(TaskID.self, forKey: .task),
            fence: try container.decode(UInt64.self, forKey: .fence))
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(task, forKey: .task)
        try container.encode(fence, forKey: .fence)
    }
}

extension Location: Codable {
    private enum CodingKeys: String, CodingKey { case address, port, key, host, socket }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        if let address = try container.decodeIfPresent(String.self, forKey: .address) {
            let port = try container.decode(UInt16.self, forKey: .port)
            guard let text = try container.decodeIfPresent(String.self, forKey: .key) else {
                self = .tcp(address: address, port: port)
                return
            }
            guard let key = PublicKey(text: text) else {
                throw DecodingError.dataCorruptedError(
                    forKey: .key, in: container, debugDescription: "\(text) is no key")
            }
            self = .curve(address: address, port: port, key: key)
        } else {
            self = .ipc(
                host: try container.decode(String.self, forKey: .host),
                socket: try container.decode(String.self, forKey: .socket))
        }
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        switch self {
        case .tcp(let address, let port):
            try container.encode(address, forKey: .address)
            try container.encode(port, forKey: .port)
        case .curve(let address, let port, let key):
            try container.encode(address, forKey: .address)
            try container.encode(port, forKey: .port)
            try container.encode(key.description, forKey: .key)
        case .ipc(let host, let socket):
            try container.encode(host, forKey: .host)
            try container.encode(socket, forKey: .socket)
        }
    }
}

extension TensorRef: Codable {
    private enum CodingKeys: String, CodingKey { case digest, dtype, shape, locations }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        let name = try container.decode(String.self, forKey: .dtype)
        guard let dtype = DType(safetensorsName: name) else {
            throw DecodingError.dataCorruptedError(
                forKey: .dtype, in: container, debugDescription: "unknown element type \(name)")
        }
        self.init(
            digest: try container.decode(Digest.self, forKey: .digest), dtype: dtype,
            shape: try container.decode([Int].self, forKey: .shape),
            locations: try container.decode([Location].self, forKey: .locations))
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(digest, forKey: .digest)
        try container.encode(dtype.safetensorsName, forKey: .dtype)
        try container.encode(shape, forKey: .shape)
        try container.encode(locations, forKey: .locations)
    }
}

extension NamedRef: Codable {
    private enum CodingKeys: String, CodingKey { case name, ref }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        self.init(
            name: try container.decode(String.self, forKey: .name),
            ref: try container.decode(TensorRef.self, forKey: .ref))
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(name, forKey: .name)
        try container.encode(ref, forKey: .ref)
    }
}

extension TaskInput: Codable {
    private enum CodingKeys: String, CodingKey { case name, task, output, blob }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        let name = try container.decode(String.self, forKey: .name)
        if let task = try container.decodeIfPresent(String.self, forKey: .task) {
            let output = try container.decode(String.self, forKey: .output)
            self.init(name: name, source: .task(name: task, output: output))
        } else {
            self.init(name: name, source: .blob(try container.decode(TensorRef.self, forKey: .blob)))
        }
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(name, forKey: .name)
        switch source {
        case .task(let task, let output):
            try container.encode(task, forKey: .task)
            try container.encode(output, forKey: .output)
        case .blob(let ref): try container.encode(ref, forKey: .blob)
        }
    }
}

extension TaskSpecification: Codable {
    private enum CodingKeys: String, CodingKey {
        case name, stage, model, parameters, inputs, durableOutputs, affinity
    }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        self.init(
            name: try container.decode(String.self, forKey: .name),
            stage: try container.decode(String.self, forKey: .stage),
            model: try container.decode(String.self, forKey: .model),
            parameters: try container.decode(String.self, forKey: .parameters),
            inputs: try container.decode([TaskInput].self, forKey: .inputs),
            durableOutputs: try container.decode(Bool.self, forKey: .durableOutputs),
            affinity: try container.decodeIfPresent(String.self, forKey: .affinity) ?? "")
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(name, forKey: .name)
        try container.encode(stage, forKey: .stage)
        try container.encode(model, forKey: .model)
        try container.encode(parameters, forKey: .parameters)
        try container.encode(inputs, forKey: .inputs)
        try container.encode(durableOutputs, forKey: .durableOutputs)
        if !affinity.isEmpty { try container.encode(affinity, forKey: .affinity) }
    }
}

extension TaskState: Codable {}
extension JobState: Codable {}
