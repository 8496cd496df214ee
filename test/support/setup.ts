import { limitStreamBuffers } from '../../src/stream-buffers.ts'
import './buffer-equality.ts'

limitStreamBuffers()
