import CKernels
package import Tensor

extension CPUBackend {
    /// Bytes of packed keys and values that are held at once: heads are taken in groups that fit.
    private static let packedLimit = 32 << 20

    package func attention(
        _ q: Tensor, _ k: Tensor, _ v: Tensor, heads: Int, scale: Float, bias: Tensor?
    ) -> Tensor {
        let (queries, channels) = rowsAndChannels(q), keys = rowsAndChannels(k).rows
        precondition(
            k.shape == v.shape && k.shape.last == channels && heads > 0 && channels % heads == 0,
            "attention of \(q.shape), \(k.shape), \(v.shape) in \(heads) heads")
        precondition(q.dtype == k.dtype && q.dtype == v.dtype, "attention of \(q.dtype), \(k.dtype), \(v.dtype)")
        precondition(keys > 0 && channels / heads <= CK_HEAD_LIMIT, "attention over \(k.shape)")
        var head = ck_attention_head(
            type: type(of: q), head_size: Int64(channels / heads), keys: Int64(keys), row_stride: Int64(channels),
            scale: scale)
        var result = Tensor(uninitialized: q.shape, dtype: q.dtype)
        let addresses = AttentionAddresses(
            q: q.readAddress, k: k.readAddress, v: v.readAddress, result: result.writeAddress(),
            bias: Tensor.vector(bias, heads * queries * keys, "bias"), queries: queries,
            headByteStride: channels / heads * q.dtype.byteCount, rowByteStride: channels * q.dtype.byteCount)
        let blocks = (keys + CK_KEY_BLOCK - 1) / CK_KEY_BLOCK
        let headBytes = blocks * Int(kernels.packed_block_bytes(head.type, head.head_size))
        let group = min(heads, max(1, Self.packedLimit / (2 * headBytes)))
        var packedTensor = Tensor(uninitialized: [2 * group * headBytes], dtype: .uint8)
        let packed = packedTensor.writeAddress()
        withExtendedLifetime((q, k, v, bias, packedTensor)) {
            for first in stride(from: 0, to: heads, by: group) {
                let members = first..<min(heads, first + group)
                pool.run(members.count * blocks) { part, _ in
                    let place = packed + 2 * (part / blocks) * headBytes
                    let offset = (members.lowerBound + part / blocks) * addresses.headByteStride
                    kernels.pack_keys(
                        &head, addresses.k + offset, addresses.v + offset, place, place + headBytes,
                        Int64(part % blocks))
                }
                attend(members, &head, addresses, packed: packed, headBytes: headBytes)
            }
        }
        return result
    }

    /// Every block of queries of the heads `members`, against their packed keys and values.
    private func attend(
        _ members: Range<Int>, _ head: UnsafePointer<ck_attention_head>, _ addresses: AttentionAddresses,
        packed: UnsafeMutableRawPointer, headBytes: Int
    ) {
        let block = CK_QUERY_BLOCK, blocks = (addresses.queries + block - 1) / block
        let scratchBytes = Int(kernels.attention_scratch_bytes(head.pointee.type, head.pointee.head_size))
        let keys = Int(head.pointee.keys)
        pool.run(members.count * blocks) { part, member in
            let index = members.lowerBound + part / blocks, row = part % blocks * block
            let offset = index * addresses.headByteStride + row * addresses.rowByteStride
            var queries = ck_attention_queries(
                queries: addresses.q + offset, result: addresses.result + offset,
                count: Int64(min(block, addresses.queries - row)),
                bias: addresses.bias.map { $0 + (index * addresses.queries + row) * keys }, bias_stride: Int64(keys))
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
    var queries: Int
    var headByteStride: Int
    var rowByteStride: Int
}
