// The entrance: styles, then the application.
import './styles/index.css';
import { startApp } from './app';

startApp();
