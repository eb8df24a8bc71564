import Failure
import Glibc
import Tensor

/// Checks that hold on both ends of the wire: what cannot be received is not sent.
enum Bounds {
    static func check(count: Int, limit: Int, _ field: String) throws(Failure) {
        guard count <= limit else {
            throw Failure("too_large", "\(field) has \(count) entries; at most \(limit)", field: field)
        }
    }

    static func check(bytes: Int, limit: Int, _ field: String) throws(Failure) {
        guard bytes <= limit else {
            throw Failure("too_large", "\(field) has \(bytes) bytes; at most \(limit)", field: field)
        }
    }

    static func check(deadline: UInt64) throws(Failure) {
        guard deadline <= Limits.deadlineMilliseconds else {
            throw Failure(
                "malformed", "a deadline after \(deadline) ms; at most \(Limits.deadlineMilliseconds)",
                field: "submit.deadline_milliseconds")
        }
    }

    /// The bytes of a dense tensor, with every product checked.
    static func byteCount(shape: [Int], dtype: DType, _ field: String) throws(Failure) -> Int {
        try check(count: shape.count, limit: Limits.tensorRank, "\(field).shape")
        var bytes = dtype.byteCount
        var isEmpty = false
        for extent in shape {
            if extent == 0 {
                isEmpty = true
                continue
            }
            let (product, overflow) = bytes.multipliedReportingOverflow(by: extent)
            guard extent > 0, !overflow, product <= Limits.tensorBytes else {
                throw Failure(
                    "malformed",
                    "\(field): shape \(shape) of \(dtype) is no tensor of at most \(Limits.tensorBytes) bytes",
                    field: field)
            }
            bytes = product
        }
        return isEmpty ? 0 : bytes
    }

    /// Literal addresses only: a name from the network would be looked up by whoever receives it.
    static func check(address: String, port: Int, _ field: String) throws(Failure) {
        var buffer = [UInt8](repeating: 0, count: 16)
        let isLiteral = inet_pton(AF_INET, address, &buffer) == 1 || inet_pton(AF_INET6, address, &buffer) == 1
        guard isLiteral, (1...Int(UInt16.max)).contains(port) else {
            throw Failure("malformed", "\(field): \(address):\(port) is no IPv4 or IPv6 address and port", field: field)
        }
    }

    /// Proofs and tokens of shared memory have one length.
    static func check(secret bytes: Int, _ field: String) throws(Failure) {
        guard bytes == MemoryWish.proofBytes else {
            throw Failure(
                "malformed", "\(field) has \(bytes) bytes; it must have \(MemoryWish.proofBytes)", field: field)
        }
    }

    /// A piece lies within its message, and the message within what a worker takes.
    static func check(_ part: AssistPart) throws(Failure) {
        try check(bytes: Int(part.length), limit: Limits.chunkBytes, "assist_part")
        let (end, overflow) = part.offset.addingReportingOverflow(UInt64(part.length))
        guard !overflow, end <= part.total, part.total <= Limits.assistanceBytes else {
            throw Failure(
                "malformed", "a piece of \(part.length) bytes at \(part.offset) of a message of \(part.total)",
                field: "assist_part")
        }
    }

    /// A plain file name: it is joined to the run directory of whoever receives it.
    static func check(socket: String, _ field: String) throws(Failure) {
        guard !socket.isEmpty, socket != ".", socket != "..", !socket.utf8.contains(UInt8(ascii: "/")) else {
            throw Failure("malformed", "\(field): \(socket) is not a file name", field: field)
        }
    }
}
