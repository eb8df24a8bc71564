import CKernels
package import Tensor

extension CPUBackend {
    /// Bytes of packed keys and values that are held at once: heads are taken in groups that fit.
    private static let packedLimit = 32 << 20
    private static let manyKeys = 2048

    package func attention(
        _ q: Tensor, _ k: Tensor, _ v: Tensor, heads: Int, scale: Float, bias: Tensor?, sequences: Int,
        firstQuery: Int, precision: ProductPrecision
    ) -> Tensor {
        let (queryRows, channels) = rowsAndChannels(q), keyRows = rowsAndChannels(k).rows
        precondition(
            k.shape == v.shape && k.shape.last == channels && heads > 0 && channels % heads == 0,
            "attention of \(q.shape), \(k.shape), \(v.shape) in \(heads) heads")
        precondition(q.dtype == k.dtype && q.dtype == v.dtype, "attention of \(q.dtype), \(k.dtype), \(v.dtype)")
        precondition(
            sequences > 0 && queryRows % sequences == 0 && keyRows % sequences == 0 && firstQuery >= 0
                && firstQuery <= queryRows / sequences, "\(sequences) sequences of \(q.shape) and \(k.shape)")
        precondition(keyRows > 0 && channels / heads <= CK_HEAD_LIMIT, "attention over \(k.shape)")
        precondition(scale.isFinite && scale != 0, "attention scaled by \(scale)")
        let keys = keyRows / sequences, length = queryRows / sequences
        var result = storage.tensor([sequences * (length - firstQuery), channels], q.dtype)
        let rowBytes = channels * q.dtype.byteCount
        let addresses = AttentionAddresses(
            q: q.readAddress + firstQuery * rowBytes, k: k.readAddress, v: v.readAddress,
            result: result.writeAddress(),
            bias: Tensor.vector(bias, heads * length * keys, "bias").map { $0 + firstQuery * keys },
            queries: length - firstQuery, queryStride: length, keys: keys, biasRows: length,
            headByteStride: channels / heads * q.dtype.byteCount, rowByteStride: rowBytes)
        var head = ck_attention_head(
            type: type(of: q), head_size: Int64(channels / heads), keys: Int64(keys), row_stride: Int64(channels),
            scale: scale, key_means: nil)
        let isInt8 = precision == .int8 && bias == nil && kernels.attends_in_int8(head.type, head.head_size)
        let means = isInt8 ? keyMeans(k, sequences: sequences) : []
        let blocks = (keys + CK_KEY_BLOCK - 1) / CK_KEY_BLOCK
        let headBytes = blocks * Int(kernels.packed_block_bytes(head.type, head.head_size))
        let total = heads * sequences, group = min(total, max(1, Self.packedLimit / (2 * headBytes)))
        var packedTensor = storage.tensor([2 * group * headBytes], .uint8)
        let packed = packedTensor.writeAddress()
        withExtendedLifetime((q, k, v, bias, packedTensor)) {
            means.withUnsafeBufferPointer { means in
                for first in stride(from: 0, to: total, by: group) {
                    let members = first..<min(total, first + group)
                    pool.run(members.count * blocks) { part, _ in
                        let place = packed + 2 * (part / blocks) * headBytes
                        let index = members.lowerBound + part / blocks
                        let offset = addresses.keyOffset(index, heads: heads)
                        var head = head
                        if isInt8 { head.key_means = means.baseAddress.map { $0 + index * Int(head.head_size) } }
                        kernels.pack_keys(
                            &head, addresses.k + offset, addresses.v + offset, place, place + headBytes,
                            Int64(part % blocks))
                    }
                    if isInt8 { head.key_means = means.baseAddress }
                    attend(members, heads: heads, &head, addresses, packed: packed, headBytes: headBytes)
                }
            }
        }
        return result
    }

    /// The mean of every channel of the keys, `[sequences, channels]`.
    private func keyMeans(_ k: Tensor, sequences: Int) -> [Float] {
        let (rows, channels) = rowsAndChannels(k), keys = rows / sequences
        let sums = channelSums((0..<sequences).map { (k, $0 * keys..<($0 + 1) * keys) }, rowsPerPiece: 256)
        return (0..<sequences * channels).map { index in
            let (sequence, channel) = index.quotientAndRemainder(dividingBy: channels)
            let first = sequence * sums.pieces
            let sum = (0..<sums.pieces).reduce(0) { $0 + sums.sum(piece: first + $1, channel: channel) }
            return Float(sum / Double(keys))
        }
    }

    /// Every block of queries of `members` (head and sequence in one number), against their packed keys and values.
    private func attend(
        _ members: Range<Int>, heads: Int, _ head: UnsafePointer<ck_attention_head>, _ addresses: AttentionAddresses,
        packed: UnsafeMutableRawPointer, headBytes: Int
    ) {
        // Many keys do not stay in a core's cache from one block of queries to the next: fewer, larger blocks then.
        let block = addresses.keys < Self.manyKeys ? Int(CK_QUERY_BLOCK) / 4 : Int(CK_QUERY_BLOCK)
        let blocks = (addresses.queries + block - 1) / block
        let scratchBytes = Int(kernels.attention_scratch_bytes(head.pointee.type, head.pointee.head_size))
        pool.run(members.count * blocks) { part, member in
            let index = members.lowerBound + part / blocks, row = part % blocks * block
            let sequence = index / heads, column = index % heads * addresses.headByteStride
            let query = (sequence * addresses.queryStride + row) * addresses.rowByteStride + column
            let target = (sequence * addresses.queries + row) * addresses.rowByteStride + column
            var queries = ck_attention_queries(
                queries: addresses.q + query, result: addresses.result + target,
                count: Int64(min(block, addresses.queries - row)),
                bias: addresses.bias.map { $0 + (index % heads * addresses.biasRows + row) * addresses.keys },
                bias_stride: Int64(addresses.keys))
            let place = packed + 2 * (part / blocks) * headBytes
            kernels.attention(
                head, &queries, place, place + headBytes, scratch.bytes(scratchBytes, member: member))
        }
    }
}

private struct AttentionAddresses {
    var q: UnsafeRawPointer
    var k: UnsafeRawPointer
    var v: UnsafeRawPointer
    var result: UnsafeMutableRawPointer
    var bias: UnsafePointer<Float>?
    /// Queries that are computed in a sequence, and rows of `q` from one sequence to the next.
    var queries: Int
    var queryStride: Int
    var keys: Int
    var biasRows: Int
    var headByteStride: Int
    var rowByteStride: Int

    func keyOffset(_ index: Int, heads: Int) -> Int {
        index / heads * keys * rowByteStride + index % heads * headByteStride
    }
}
