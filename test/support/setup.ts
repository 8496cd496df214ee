import './buffer-equality.ts'
