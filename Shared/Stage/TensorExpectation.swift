package import Failure
package import Tensor

/// What a stage requires of a tensor that came from outside, checked before any arithmetic sees it.
package struct TensorExpectation: Sendable {
    /// One extent of a shape: an integer literal, or any number from 1 on under a name for messages.
    package enum Extent: Sendable, ExpressibleByIntegerLiteral, CustomStringConvertible {
        case exactly(Int)
        case any(String)

        package init(integerLiteral value: Int) { self = .exactly(value) }

        package var description: String {
            switch self {
            case .exactly(let extent): "\(extent)"
            case .any(let name): name
            }
        }

        func matches(_ extent: Int) -> Bool {
            switch self {
            case .exactly(let wanted): extent == wanted
            case .any: extent >= 1
            }
        }
    }

    private let dtypes: [DType]
    private let shape: [Extent]

    /// Any of `dtypes`, exactly this shape; floating-point values must be finite.
    package init(_ dtypes: [DType], _ shape: [Extent]) {
        self.dtypes = dtypes
        self.shape = shape
    }

    /// Opaque bytes `[n]` uint8: a text, an encoded file.
    package static let bytes = TensorExpectation([.uint8], [.any("bytes")])

    /// Fails with `tensor_dtype_wrong`, `tensor_misshapen` or `tensor_not_finite`, naming tensor and value.
    package func check(_ tensor: Tensor, name: String) throws(Failure) {
        guard dtypes.contains(tensor.dtype) else {
            let wanted = dtypes.map { "\($0)" }.joined(separator: " or ")
            throw Failure(
                "tensor_dtype_wrong", "\(name) is \(tensor.dtype) and must be \(wanted)", field: name,
                remedy: "Convert it before sending.")
        }
        guard tensor.shape.count == shape.count, zip(tensor.shape, shape).allSatisfy({ $1.matches($0) }) else {
            let wanted = shape.map { "\($0)" }.joined(separator: ", ")
            throw Failure(
                "tensor_misshapen", "\(name) has the shape \(tensor.shape) and must have [\(wanted)]", field: name,
                remedy: "Send it in this shape.")
        }
        try Self.checkFinite(tensor, name: name, code: "tensor_not_finite")
    }

    /// Fails with `code` when a value is NaN or infinite, naming the first.
    package static func checkFinite(_ tensor: Tensor, name: String, code: String) throws(Failure) {
        guard tensor.dtype.isFloatingPoint, let index = tensor.firstNonFinite() else { return }
        var remaining = index
        var position: [Int] = []
        for extent in tensor.shape.reversed() {
            position.insert(remaining % extent, at: 0)
            remaining /= extent
        }
        throw Failure(
            code, "\(name) is NaN or infinite at \(position) of \(tensor.shape)", field: name,
            remedy: code == "numeric_fault"
                ? "Use float32, or check that the model's weights are undamaged." : "Send finite values only.")
    }
}
