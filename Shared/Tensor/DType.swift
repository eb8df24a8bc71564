/// The element type of a tensor.
///
/// The raw value is the wire form: DLPack's `(code, bits, lanes)` packed as `code << 24 | bits << 16 | lanes`.
package enum DType: UInt32, Sendable, Hashable, CaseIterable {
    case float32 = 0x02_20_0001
    case float16 = 0x02_10_0001
    case bfloat16 = 0x04_10_0001
    case uint8 = 0x01_08_0001
    case int32 = 0x00_20_0001
    case int64 = 0x00_40_0001

    /// Bytes of one element.
    package var byteCount: Int { Int((rawValue >> 16) & 0xff) / 8 }

    /// The name in a safetensors header.
    package var safetensorsName: String {
        switch self {
        case .float32: "F32"
        case .float16: "F16"
        case .bfloat16: "BF16"
        case .uint8: "U8"
        case .int32: "I32"
        case .int64: "I64"
        }
    }

    package init?(safetensorsName name: String) {
        guard let found = DType.allCases.first(where: { $0.safetensorsName == name }) else { return nil }
        self = found
    }

    package var isFloatingPoint: Bool { self == .float32 || self == .float16 || self == .bfloat16 }
}
